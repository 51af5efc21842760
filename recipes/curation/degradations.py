"""What makes a picture worse, by kind and strength: the labels of the quality heads."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Degradation = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]  # picture, strength 0..1 -> picture


def blur(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), 0.6 + 3.5 * strength)


def motion_blur(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    length = 3 + round(14 * strength)
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), rng.uniform(0, 180), 1)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    return cv2.filter2D(picture, -1, kernel / max(kernel.sum(), 1e-6))


def coarse(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = 1 / (1.4 + 4 * strength)
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    kind = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(2))]
    return cv2.resize(small, (width, height), interpolation=kind)


def blocks(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    quality = round(45 - 42 * strength)
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, max(quality, 2)])[1], 1)


def noise(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    grain = rng.normal(0, 5 + 35 * strength, picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def coarse_blocks(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return blocks(coarse(picture, strength / 2, rng), strength, rng)


def dark(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return (255 * (picture / 255.0) ** (1.4 + 2.4 * strength) * (1 - 0.4 * strength)).astype(np.uint8)


def bright(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return np.clip(picture * (1.25 + 1.2 * strength) + 20 * strength, 0, 255).astype(np.uint8)


def flat(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    gray = rng.uniform(110, 170)
    return (picture * (0.7 - 0.5 * strength) + gray * (0.3 + 0.5 * strength)).astype(np.uint8)


def cast(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    tint = rng.permutation([1.0, -0.5, -0.5]) * (25 + 70 * strength)
    return np.clip(picture + tint, 0, 255).astype(np.uint8)


def garish(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    gray = picture.mean(2, keepdims=True)
    return np.clip(gray + (picture - gray) * (1.7 + 2.5 * strength), 0, 255).astype(np.uint8)


def crooked(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    angle = float(rng.choice([-1, 1])) * (8 + 24 * strength)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.25 + 0.35 * strength)
    return cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REFLECT)


def cut_off(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A corner of the picture, as if the subject were missed."""
    height, width = picture.shape[:2]
    side = 0.6 - 0.35 * strength
    top, left = (int(rng.integers(2)) * round((1 - side) * length) for length in (height, width))
    part = picture[top : top + round(side * height), left : left + round(side * width)]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)


TECHNICAL: dict[str, Degradation] = {
    each.__name__: each for each in (blur, motion_blur, coarse, blocks, noise, coarse_blocks)
}
AESTHETIC: dict[str, Degradation] = {
    each.__name__: each for each in (dark, bright, flat, cast, garish, crooked, cut_off)
}
