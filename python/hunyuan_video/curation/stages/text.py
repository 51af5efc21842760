"""Text in pictures: boxes by RapidOCR (PP-OCRv6, offline), their area, and subtitles that a crop removes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hunyuan_video.curation.packages import package
from hunyuan_video.curation.stages.crop import Crop

LONGEST = 640  # pixels of the longer side that is read
SURE = 0.7  # of the reader, as Open-Sora 2.0 counts boxes
LEAST_LETTERS = 2  # one letter alone is mostly a mark that looks like one
EDGE = 0.3  # share of the height at top and bottom where subtitles and tickers lie
MARGIN = 0.01  # of the height that is cut away beyond them
AGAIN = 0.5  # share of a clip's pictures that have text in the strip, at least, to cut it away


@dataclass(frozen=True)
class TextBox:
    """An upright box around a line of text, in shares of the sides."""

    left: float
    top: float
    right: float
    bottom: float
    text: str
    score: float


class TextReader:
    """Finds and reads lines of text; the models are loaded with the first picture."""

    def __init__(self) -> None:
        self._engine: Any = None

    def see(self, picture: np.ndarray) -> list[TextBox]:  # uint8 [H, W, 3], longer side at most 640
        if min(picture.shape[:2]) < 16:
            return []
        if self._engine is None:
            self._engine = _engine()
        result = self._engine(np.ascontiguousarray(picture[..., ::-1]), use_cls=False)
        if result.boxes is None:
            return []
        height, width = picture.shape[:2]
        boxes = []
        for corners, text, score in zip(result.boxes, result.txts, result.scores, strict=True):
            (left, top), (right, bottom) = corners.min(0), corners.max(0)
            if score >= SURE and len(text.strip()) >= LEAST_LETTERS:
                sides = (left / width, top / height, right / width, bottom / height)
                left, top, right, bottom = (float(min(max(side, 0.0), 1.0)) for side in sides)
                boxes.append(TextBox(left, top, right, bottom, text, float(score)))
        return boxes


def _engine() -> Any:
    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    settings = {"Det.limit_type": "max", "Det.limit_side_len": LONGEST, "Global.log_level": "critical"}
    return package("rapidocr").RapidOCR(params={**settings, **threads})


def text_area(boxes: Sequence[TextBox], crop: Crop) -> float:
    """The share of a crop's area that boxes cover; where they overlap, it counts twice, at most 1 in all."""
    covered = 0.0
    for box in boxes:
        part = Crop.of_edges(box.left, box.top, box.right, box.bottom).within(crop)
        covered += part.area
    return min(covered / crop.area, 1.0) if crop.area else 0.0


def subtitle_crop(samples: Sequence[Sequence[TextBox]], crop: Crop) -> Crop:
    """The part of a crop without the lines of text at its top and bottom that half of the pictures have."""
    top = _strip([[box for box in boxes if box.bottom <= crop.y + EDGE * crop.height] for boxes in samples], "bottom")
    low = crop.bottom - EDGE * crop.height
    bottom = _strip([[box for box in boxes if box.top >= low] for boxes in samples], "top")
    upper = crop.y if top is None else min(top + MARGIN, crop.bottom)
    lower = crop.bottom if bottom is None else max(bottom - MARGIN, upper)
    return Crop.of_edges(crop.x, upper, crop.right, lower)


def _strip(samples: list[list[TextBox]], side: str) -> float | None:
    """The inner edge of the text of a strip, None where fewer than half of the pictures have some."""
    edges = [getattr(box, side) for boxes in samples for box in boxes]
    having = sum(bool(boxes) for boxes in samples)
    if not edges or having < AGAIN * len(samples):
        return None
    return max(edges) if side == "bottom" else min(edges)
