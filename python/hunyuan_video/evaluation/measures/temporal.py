"""Metrics of a clip's change over time. A frozen picture has the best value of all but `dynamic_degree`."""

from __future__ import annotations

import numpy as np

from hunyuan_video.curation.packages import cv2

RATE = 8.0  # frames a second that dynamic degree looks at, as VBench
FASTEST = 0.05  # share of the pixels whose flow counts
THRESHOLD, SIDE = 6.0, 256.0  # pixels of flow in a frame of this shorter side that make a pair of frames dynamic
LEAST_SIDE = 16  # pixels: smaller frames have no DIS flow


def temporal_flickering(frames: np.ndarray) -> float:  # uint8 [F, H, W, 3] -> 0..1
    """1 - mean absolute difference of neighboring frames / 255: VBench's definition, exactly; NaN for one frame."""
    if len(frames) < 2:
        return float("nan")
    changes = [_difference(a, b) for a, b in zip(frames[:-1], frames[1:], strict=True)]
    return 1.0 - float(np.mean(changes)) / 255


def motion_smoothness(frames: np.ndarray) -> float:  # uint8 [F, H, W, 3] -> 0..1
    """1 - mean absolute error / 255 of every second frame, interpolated half way along the flow of its neighbors.

    VBench's definition with DIS flow in place of AMT-S. NaN for fewer than three frames or below 16 pixels.
    """
    if len(frames) < 3 or min(frames.shape[1:3]) < LEAST_SIDE:
        return float("nan")
    errors = [_difference(_midpoint(frames[i - 1], frames[i + 1]), frames[i]) for i in range(1, len(frames) - 1, 2)]
    return 1.0 - float(np.mean(errors)) / 255


def flow_lengths(frames: np.ndarray, fps: float) -> list[float]:  # uint8 [F, H, W, 3]
    """Mean flow, in pixels, of the 5 % of pixels that move most, for neighbors among 8 frames a second."""
    step = max(round(fps / RATE), 1)
    looks = frames[::step]
    if min(frames.shape[1:3]) < LEAST_SIDE:
        return []
    lengths = []
    for a, b in zip(looks[:-1], looks[1:], strict=True):
        flow = np.sort(np.linalg.norm(_flow(a, b), axis=-1), axis=None)
        lengths.append(float(flow[-max(int(len(flow) * FASTEST), 1) :].mean()))
    return lengths


def is_dynamic(lengths: list[float], looks: int, shorter_side: int) -> float:
    """1.0 for a clip of which enough pairs of looks move (VBench: 6 pixels at 256, 4 pairs of 16 looks), else 0.0.

    At least one pair must, where VBench's rounding asks for none of short clips. NaN where there is no pair.
    """
    if not lengths:
        return float("nan")
    threshold = THRESHOLD * shorter_side / SIDE
    needed = max(round(4 * looks / 16), 1)
    return float(sum(length > threshold for length in lengths) >= needed)


def _difference(a: np.ndarray, b: np.ndarray) -> float:  # uint8 each; never subtracted as uint8, which wraps around
    return float(np.abs(a.astype(np.int16) - b).mean())


def _flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # uint8 [H, W, 3] each -> float32 [H, W, 2], pixels
    """DIS flow in full resolution; a new estimator each time, for it starts from what it saw before."""
    estimator = cv2().DISOpticalFlow_create(cv2().DISOPTICAL_FLOW_PRESET_MEDIUM)
    estimator.setFinestScale(0)
    gray = [cv2().cvtColor(np.ascontiguousarray(each), cv2().COLOR_RGB2GRAY) for each in (a, b)]
    return estimator.calc(gray[0], gray[1], None)


def _midpoint(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # uint8 [H, W, 3] each -> the same
    """Mean of both, each moved half of the way towards the other."""
    height, width = a.shape[:2]
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = []
    for source, flow in ((a, _flow(a, b)), (b, _flow(b, a))):
        x, y = columns - flow[..., 0] / 2, rows - flow[..., 1] / 2
        moved.append(cv2().remap(source, x, y, cv2().INTER_LINEAR, borderMode=cv2().BORDER_REPLICATE))
    return np.round((moved[0].astype(np.float32) + moved[1]) / 2).astype(np.uint8)
