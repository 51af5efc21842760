"""Logos and watermarks: edges that stay at their place while the picture behind them moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hunyuan_video.curation.packages import cv2
from hunyuan_video.curation.stages.crop import Crop

LONGEST = 320  # pixels of the longer side that edges are looked for at
EDGE = 24.0  # gray levels a pixel
STAYS = 0.9  # share of a clip's pictures in which an edge is at its place
FEWEST = 4  # pictures of a clip that say anything
STEADY = 12.0  # gray levels, the standard deviation over time of a logo's pixels at most
MOVES = 3.0  # and of the pixels around it at least, or nothing tells a logo from a still scene
MOSTLY, MOST = 0.4, 2  # share of all edges that stay that must be logos'; logos of a picture
CORNER = 0.34  # of the sides: a logo lies in one of the corners' fields
SMALLEST, LARGEST = 12, 0.06  # pixels of edges; share of the picture


@dataclass(frozen=True)
class Logo:
    """A place of edges that stay, in shares of the sides."""

    left: float
    top: float
    right: float
    bottom: float


def small_gray(gray: np.ndarray) -> np.ndarray:  # uint8 [H, W] -> uint8 [h, w], longer side 320
    height, width = gray.shape
    scale = LONGEST / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return cv2().resize(gray, size, interpolation=cv2().INTER_AREA)


def _edges(small: np.ndarray) -> np.ndarray:  # uint8 [h, w] -> bool [h, w]
    return np.hypot(cv2().Sobel(small, cv2().CV_32F, 1, 0), cv2().Sobel(small, cv2().CV_32F, 0, 1)) / 4 > EDGE


def find_logos(samples: Sequence[np.ndarray], crop: Crop) -> list[Logo]:  # uint8 [h, w] of `small_gray`
    """Logos within a crop; none where too few pictures, or pictures that do not move, leave it open."""
    if len(samples) < FEWEST or len({sample.shape for sample in samples}) > 1:
        return []
    height, width = samples[0].shape
    left, top, w, h = crop.pixels(height, width)
    inner = np.s_[:, top + 2 : top + h - 2, left + 2 : left + w - 2]
    part = np.stack([_edges(sample) for sample in samples])[inner]
    change = np.stack(samples)[inner].astype(np.float32).std(0)  # of each pixel over time
    stays = (part.mean(0) >= STAYS) & (change < STEADY)
    if not stays.any():
        return []
    joined = cv2().morphologyEx(stays.astype(np.uint8), cv2().MORPH_CLOSE, np.ones((9, 9), np.uint8))
    count, labels, boxes, _ = cv2().connectedComponentsWithStats(joined, connectivity=8)
    found, covered = [], 0
    for label in range(1, count):
        x, y, box_width, box_height, _ = (int(value) for value in boxes[label])
        pixels = int((stays & (labels == label)).sum())
        area = box_width * box_height / max(part[0].size, 1)
        corner = _in_a_corner(x, y, box_width, box_height, part.shape[1:])
        moving = _change_around(change, x, y, box_width, box_height) >= MOVES
        if pixels >= SMALLEST and area <= LARGEST and corner and moving:
            covered += pixels
            x, y = x + left + 2, y + top + 2
            found.append(Logo(x / width, y / height, (x + box_width) / width, (y + box_height) / height))
    return found if covered >= MOSTLY * stays.sum() and len(found) <= MOST else []


def _change_around(change: np.ndarray, x: int, y: int, width: int, height: int) -> float:
    """The middle change of the pixels in a frame around a box, half its height wide."""
    reach = max(height // 2, 3)
    window = change[max(y - reach, 0) : y + height + reach, max(x - reach, 0) : x + width + reach]
    ring = np.ones(window.shape, bool)
    inner_y, inner_x = min(y, reach), min(x, reach)
    ring[inner_y : inner_y + height, inner_x : inner_x + width] = False
    return float(np.median(window[ring])) if ring.any() else 0.0


def _in_a_corner(x: int, y: int, width: int, height: int, size: tuple[int, ...]) -> bool:
    middle_x, middle_y = (x + width / 2) / size[1], (y + height / 2) / size[0]
    return min(middle_x, 1 - middle_x) < CORNER and min(middle_y, 1 - middle_y) < CORNER


def logo_area(logos: Sequence[Logo], crop: Crop) -> float:
    """The share of a crop that logos cover."""
    parts = (Crop.of_edges(logo.left, logo.top, logo.right, logo.bottom).within(crop).area for logo in logos)
    return min(sum(parts) / crop.area, 1.0) if crop.area else 0.0


def logo_crop(logos: Sequence[Logo], crop: Crop) -> Crop:
    """The largest part of a crop without a logo, cutting one side for each."""
    margin = 0.01
    for logo in logos:
        box = Crop.of_edges(logo.left, logo.top, logo.right, logo.bottom).within(crop)
        if not box.area:
            continue
        crop = max(
            Crop.of_edges(box.right + margin, crop.y, crop.right, crop.bottom),
            Crop.of_edges(crop.x, crop.y, box.x - margin, crop.bottom),
            Crop.of_edges(crop.x, box.bottom + margin, crop.right, crop.bottom),
            Crop.of_edges(crop.x, crop.y, crop.right, box.y - margin),
            key=lambda part: part.area,
        )
    return crop
