"""Frames of a video that is read once from its start to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StreamedFrame:
    """A frame of a stream; its pixels are made when they are asked for."""

    number: int  # among the frames shown, from 0
    seconds: float  # from the first frame
    picture: Callable[[int | None], np.ndarray]
    """Longest side at most, None: as stored -> uint8 [H, W, 3], upright and, where scaled, in square pixels."""


def reduced(height: float, width: float, longest: int) -> tuple[int, int]:
    """(height, width) of a picture whose longer side becomes `longest`."""
    scale = longest / max(height, width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:  # uint8 [H, W, 3] -> [size[0], size[1], 3]
    """Each pixel the mean of those that it covers."""
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BOX))
