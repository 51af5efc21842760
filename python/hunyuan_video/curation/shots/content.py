"""Changes between pictures in hue, saturation and value: the arithmetic of PySceneDetect's content score."""

from __future__ import annotations

import numpy as np

from hunyuan_video.curation.packages import cv2

SIZE = (27, 48)  # rows, columns of the thumbnails that shots are found on: what TransNet V2 was trained with


def thumbnail(picture: np.ndarray) -> np.ndarray:  # uint8 [H, W, 3] -> uint8 [27, 48, 3]
    return cv2().resize(picture, SIZE[::-1], interpolation=cv2().INTER_AREA)


def hsv(thumbnails: np.ndarray) -> np.ndarray:  # uint8 RGB [N, h, w, 3] -> int16 [N, h, w, 3]
    """Hue in 0..179, saturation and value in 0..255, as OpenCV has them."""
    rows = thumbnails.reshape(len(thumbnails) * thumbnails.shape[1], thumbnails.shape[2], 3)
    return cv2().cvtColor(rows, cv2().COLOR_RGB2HSV).reshape(thumbnails.shape).astype(np.int16)


def content(before: np.ndarray, after: np.ndarray) -> np.ndarray:  # both [N, h, w, 3] of `hsv` -> float [N]
    """Mean absolute difference of the three channels, 0..255; a hard cut of live pictures has about 27 and more."""
    return np.abs(after - before).mean((1, 2, 3))
