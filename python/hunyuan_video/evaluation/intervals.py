"""Intervals of shares that were counted: the true one may be anywhere in them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from hunyuan_video.lazy import optional_package

NORMAL_95 = 1.959964


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share that was seen in `count` cases (Wilson 1927); (0, 1) for none."""
    if count < 1:
        return 0.0, 1.0
    square = NORMAL_95**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def scipy_stats() -> Any:
    """scipy.stats; UserError where it is not installed."""
    return optional_package("scipy.stats", "an interval of few cases", "eval")


def clopper_pearson(right: int, count: int) -> tuple[float, float]:
    """The exact 95 % interval of a share, `right` of `count` cases (Clopper and Pearson 1934); (0, 1) for none."""
    if count < 1:
        return 0.0, 1.0
    limits = scipy_stats().binomtest(right, count).proportion_ci(0.95, method="exact")
    return float(limits.low), float(limits.high)


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of a mean by Student's t; None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    half = float(scipy_stats().t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half
