"""Sharpness and exposure of a picture."""

from __future__ import annotations

import numpy as np

from hunyuan_video.curation.packages import cv2

REBLUR = 9  # pixels of the box that a picture is blurred with once more
SHADOW, LIGHT = 12, 243  # gray levels below and above which nothing can be seen


def laplacian(gray: np.ndarray) -> float:  # uint8 [H, W]
    """Variance of OpenCV's Laplacian: compares pictures of one scene (27 to 1343 for different sharp ones)."""
    return float(cv2().Laplacian(gray, cv2().CV_32F).var())


def sharpness(gray: np.ndarray) -> float:  # uint8 [H, W] -> 0..1
    """The share of the differences between neighbors that is lost when the picture is blurred once more.

    Little for a picture that is blurred already, whatever it shows. The measure of Crete et al. (2007), as the better
    axis' share that is lost.
    """
    values = cv2().blur(gray.astype(np.float32), (3, 3))  # the steps of rounding would look like edges
    scores = []
    for axis, box in ((0, (1, REBLUR)), (1, (REBLUR, 1))):
        before, after = (np.abs(np.diff(each, axis=axis)) for each in (values, cv2().blur(values, box)))
        lost = np.maximum(before - after, 0).sum()
        scores.append(float(lost / before.sum()) if before.sum() > 0 else 0.0)
    return min(scores)


def exposure(gray: np.ndarray) -> tuple[float, float, float]:  # uint8 [H, W]
    """(mean in 0..1, share of pixels in shadow, share that is burnt out)."""
    return float(gray.mean() / 255), float((gray <= SHADOW).mean()), float((gray >= LIGHT).mean())
