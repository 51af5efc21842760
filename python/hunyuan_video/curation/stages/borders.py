"""Borders: bars of one color at the sides of every picture of a clip, as letterboxes and pillarboxes have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hunyuan_video.curation.stages.crop import Crop

DIFFERENT = 14  # gray levels from the border's color
EMPTY = 0.01  # share of a line's pixels that differ at most within a border
FULL = 0.4  # and at least in one of the first lines beside it: an object on a black ground begins with a few
NEXT = 4  # lines
LEAST = 0.01  # of the side: thinner ones are left alone
MOST = 0.45  # of the side, each


@dataclass(frozen=True)
class Lines:
    """Shares of pixels of every row and column that differ from the color of each side's outermost line."""

    top: np.ndarray  # float32 [H]
    bottom: np.ndarray  # [H], from below
    left: np.ndarray  # [W]
    right: np.ndarray  # [W], from the right


def lines(gray: np.ndarray) -> Lines:  # uint8 [H, W]
    rows, columns = gray, gray.T
    return Lines(_differing(rows), _differing(rows[::-1]), _differing(columns), _differing(columns[::-1]))


def _differing(rows: np.ndarray) -> np.ndarray:
    color = np.median(rows[0])
    return (np.abs(rows.astype(np.int16) - int(color)) > DIFFERENT).mean(1).astype(np.float32)


def border_crop(samples: Sequence[Lines]) -> Crop:
    """The part within the borders that all pictures of a clip have."""
    if not samples:
        return Crop()
    top, bottom, left, right = (
        _width(np.stack([getattr(sample, side) for sample in samples]).max(0))
        for side in ("top", "bottom", "left", "right")
    )
    return Crop.of_edges(left, top, 1 - right, 1 - bottom)


def _width(differing: np.ndarray) -> float:
    """The border's share of the side, 0 where there is none."""
    full = np.flatnonzero(differing > EMPTY)
    if not len(full):
        return 0.0  # nothing but one color: no border of anything
    width, count = int(full[0]), len(differing)
    beside = differing[width : width + NEXT].max()
    if width < max(LEAST * count, 2) or width > MOST * count or beside < FULL:
        return 0.0
    return min(width + 1, count) / count  # the line beside it is half border where a codec has blurred it
