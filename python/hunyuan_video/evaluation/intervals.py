"""Intervals of shares that were counted: the true one may be anywhere in them."""

from __future__ import annotations

import math

NORMAL_95 = 1.959964


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share that was seen in `count` cases (Wilson 1927); (0, 1) for none."""
    if count < 1:
        return 0.0, 1.0
    square = NORMAL_95**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return max(0.0, middle - half), min(1.0, middle + half)
