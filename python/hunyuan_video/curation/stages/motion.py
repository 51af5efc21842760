"""Motion of a clip from its flow: how much, how evenly, how shaky; frozen frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hunyuan_video.curation.stages.crop import Crop
from hunyuan_video.curation.stages.flow import Flow, inside

FROZEN = 0.15  # mean difference of two looks in gray levels, below which they are the same picture


def motion_scores(flows: Sequence[Flow], crop: Crop) -> dict[str, float | None]:
    """motion: the mean speed within the crop, longer sides a second, of the middle look; steadiness of it; frozen.

    motion_peak: the 90th percentile over time. shake: speed of the whole picture's back and forth that its smooth way
    has not. frozen: share of looks that equal the one before. None for a clip of fewer than two looks.
    """
    if not flows:
        return {"motion": None, "motion_peak": None, "shake": None, "frozen": None}
    mask = inside(crop)
    if not mask.any():
        mask[:] = True
    speeds = np.array([np.linalg.norm(flow.cells[mask], axis=-1).mean() / flow.seconds for flow in flows])
    ways = np.array([np.median(flow.cells[mask], axis=0) / flow.seconds for flow in flows])  # [N, 2]
    frozen = np.mean([flow.change < FROZEN for flow in flows])
    return {
        "motion": float(np.median(speeds)),
        "motion_peak": float(np.percentile(speeds, 90)),
        "shake": _shake(ways),
        "frozen": float(frozen),
    }


def _shake(ways: np.ndarray) -> float:  # [N, 2] speeds
    """Mean distance of each speed from the mean of its neighbors, 0 for fewer than three."""
    if len(ways) < 3:
        return 0.0
    return float(np.linalg.norm(ways[1:-1] - (ways[:-2] + ways[2:]) / 2, axis=-1).mean() / 1.5)
