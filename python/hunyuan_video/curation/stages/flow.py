"""Optical flow between two looks, as the flow of a grid of cells (DIS flow of OpenCV at 256 pixels)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hunyuan_video.curation.packages import cv2
from hunyuan_video.curation.stages.crop import Crop

ROWS, COLUMNS = 9, 16
LONGEST = 256  # pixels of the longer side that flow is measured at
RATE = 12.0  # looks a second at most: faster ones show less of a slow move than flow's error
TEXTURE = 6.0  # gray levels a pixel: a cell with less is flat, and its flow a guess


@dataclass(frozen=True)
class Flow:
    """Everything that moved from one look to the next."""

    seconds: float  # between the two
    cells: np.ndarray  # float32 [9, 16, 2]: right and down, as a share of the longer side
    texture: np.ndarray  # float32 [9, 16] in 0..1: how far a cell's flow can be trusted
    change: float  # mean absolute difference of the two, 0..255


class FlowMeter:
    """Measures flow from one look to the next."""

    def __init__(self) -> None:
        self._flow: Any = cv2().DISOpticalFlow_create(cv2().DISOPTICAL_FLOW_PRESET_FAST)
        self._last: tuple[float, np.ndarray] | None = None

    def see(self, picture: np.ndarray, seconds: float) -> Flow | None:  # uint8 [H, W, 3], longer side 256
        """None for the first look, and where the size changes."""
        gray = cv2().cvtColor(picture, cv2().COLOR_RGB2GRAY)
        last, self._last = self._last, (seconds, gray)
        if last is None or last[1].shape != gray.shape or min(gray.shape) < 24 or seconds <= last[0]:
            return None
        moved = self._flow.calc(last[1], gray, None)
        cells = _cells(moved) / max(gray.shape)
        dx, dy = cv2().Sobel(last[1], cv2().CV_32F, 1, 0), cv2().Sobel(last[1], cv2().CV_32F, 0, 1)
        slope = _means(np.hypot(dx, dy)) / 4
        change = float(cv2().absdiff(last[1], gray).mean())
        return Flow(seconds - last[0], cells, np.clip(slope / TEXTURE, 0, 1).astype(np.float32), change)


def _cells(moved: np.ndarray) -> np.ndarray:  # [H, W, 2] -> [9, 16, 2]
    """The median of each cell: an edge of something small does not pull it."""
    rows = np.linspace(0, moved.shape[0], ROWS + 1).round().astype(int)
    columns = np.linspace(0, moved.shape[1], COLUMNS + 1).round().astype(int)
    cells = np.empty((ROWS, COLUMNS, 2), np.float32)
    for i in range(ROWS):
        for j in range(COLUMNS):
            cell = moved[rows[i] : rows[i + 1] : 2, columns[j] : columns[j + 1] : 2].reshape(-1, 2)
            cells[i, j] = np.median(cell, axis=0)
    return cells


def _means(values: np.ndarray) -> np.ndarray:  # [H, W] -> [9, 16]
    return cv2().resize(values, (COLUMNS, ROWS), interpolation=cv2().INTER_AREA)


def inside(crop: Crop) -> np.ndarray:  # bool [9, 16]
    """Cells whose middle lies within a crop."""
    x, y = (np.arange(COLUMNS) + 0.5) / COLUMNS, (np.arange(ROWS) + 0.5) / ROWS
    columns = (x >= crop.x) & (x < crop.x + crop.width)
    rows = (y >= crop.y) & (y < crop.y + crop.height)
    return rows[:, None] & columns[None, :]
