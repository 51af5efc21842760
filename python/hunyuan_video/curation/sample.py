"""Samples: the pictures of a video, about one a second, that the slower stages look at."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hunyuan_video.curation.packages import cv2
from hunyuan_video.curation.stages.borders import Lines, lines
from hunyuan_video.curation.stages.embedding import Embedder
from hunyuan_video.curation.stages.logos import small_gray
from hunyuan_video.curation.stages.quality import QualityHeads
from hunyuan_video.curation.stages.sharpness import exposure, sharpness
from hunyuan_video.curation.stages.text import LONGEST as TEXT_LONGEST
from hunyuan_video.curation.stages.text import TextBox, TextReader
from hunyuan_video.media.stream import StreamedFrame, reduced, resized

LONGEST = 1280  # pixels of the longer side that samples are taken at
THUMBNAIL = 160  # of the report
SAME = 1.0  # mean difference of two samples in gray levels, below which text is not read again


@dataclass(frozen=True)
class Sample:
    """Everything that the stages saw in one picture."""

    number: int  # of the frame
    sharpness: float
    exposure: tuple[float, float, float]
    lines: Lines
    text: list[TextBox]
    small: np.ndarray  # of `logos.small_gray`
    embedding: np.ndarray  # float32 [1280]
    aesthetic: float
    technical: float
    thumbnail: bytes  # JPEG


@dataclass
class Sampler:
    """The models that look at samples, each loaded with the first one."""

    reader: TextReader = field(default_factory=TextReader)
    embedder: Embedder = field(default_factory=Embedder)
    heads: QualityHeads = field(default_factory=QualityHeads)
    _last: tuple[np.ndarray, list[TextBox]] | None = None

    def restart(self) -> None:
        """Forgets the pictures of the video before."""
        self._last = None

    def see(self, frame: StreamedFrame) -> Sample:
        picture = frame.picture(LONGEST)
        gray = cv2().cvtColor(picture, cv2().COLOR_RGB2GRAY)
        statistics, embedding = self.embedder.see(picture)
        aesthetic, technical = self.heads.see(picture, statistics)
        return Sample(
            frame.number, sharpness(gray), exposure(gray), lines(gray), self._text(picture, gray), small_gray(gray),
            embedding, aesthetic, technical, _jpeg(picture),
        )  # fmt: skip

    def _text(self, picture: np.ndarray, gray: np.ndarray) -> list[TextBox]:
        last = self._last
        same = last is not None and last[0].shape == gray.shape
        if last is not None and same and float(cv2().absdiff(last[0], gray).mean()) < SAME:
            return last[1]
        boxes = self.reader.see(_at_most(picture, TEXT_LONGEST))
        self._last = gray, boxes
        return boxes


def _at_most(picture: np.ndarray, longest: int) -> np.ndarray:
    height, width = picture.shape[:2]
    return picture if max(height, width) <= longest else resized(picture, reduced(height, width, longest))


def _jpeg(picture: np.ndarray) -> bytes:
    small = np.ascontiguousarray(_at_most(picture, THUMBNAIL)[..., ::-1])
    return bytes(cv2().imencode(".jpg", small, [cv2().IMWRITE_JPEG_QUALITY, 80])[1])
