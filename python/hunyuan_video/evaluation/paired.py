"""A difference over the same prompts: its interval, the least that so many prompts can show, how many would show more.

Shares (a prompt followed or not) have the interval of Agresti and Min (2005, Statistics in Medicine 24), which covers
at 20 prompts where a resampled or Wald one has .78, and which says something when no prompt differs. Other values have
Student's t over the pairs' differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hunyuan_video.errors import ArgumentError
from hunyuan_video.evaluation.intervals import NORMAL_95, clopper_pearson, scipy_stats

POWER_80 = 0.841621  # normal quantile: a true difference of the least size is found in 80 % of studies
MOST = 10**9  # prompts


@dataclass(frozen=True)
class Paired:
    """Second - first over pairs, with a 95 % interval; None for what so few pairs cannot say."""

    pairs: int
    first: float  # means
    second: float
    difference: float
    low: float | None
    high: float | None
    smallest_visible: float | None  # true difference found with 80 % power by so many pairs
    interest: float  # the difference for which the next is
    pairs_needed: int | None  # to find it with 80 % power, from the upper limit of what pairs differ by
    discordant: float | None = None  # share of prompts on which exactly one is right
    discordant_high: float | None = None  # its upper 95 % limit (Clopper-Pearson)

    @property
    def verdict(self) -> str:
        """The second beside the first: "better", "worse" or "cannot tell"."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "cannot tell"
        return "better" if self.low > 0 else "worse"


def paired_shares(first: Sequence[bool], second: Sequence[bool], interest: float = 0.05) -> Paired:
    """Comparison of what was right on each prompt. interest: a difference of shares in (0, 1]."""
    check_interest(interest, shares=True)
    n = _pairs(first, second)
    gained = sum(not a and b for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    low, high = agresti_min(gained, lost, n)
    most = clopper_pearson(gained + lost, n)[1]
    return Paired(
        n, sum(first) / n, sum(second) / n, (gained - lost) / n, low, high, smallest_visible(n, most), interest,
        prompts_needed(interest, most), (gained + lost) / n, most,
    )  # fmt: skip


def paired_values(first: Sequence[float], second: Sequence[float], interest: float) -> Paired:
    """Comparison of two values of each prompt. interest: a difference above 0, in their unit."""
    check_interest(interest, shares=False)
    n = _pairs(first, second)
    differences = np.subtract(second, first, dtype=np.float64)
    mean = float(differences.mean())
    means = float(np.mean(first)), float(np.mean(second))
    if n < 2:
        return Paired(n, *means, mean, None, None, None, interest, None)
    stats = scipy_stats()
    deviation = float(differences.std(ddof=1))
    student = float(stats.t.ppf(0.975, n - 1))
    half = student * deviation / math.sqrt(n)
    visible = (student + POWER_80) * deviation / math.sqrt(n)
    most = deviation * math.sqrt((n - 1) / float(stats.chi2.ppf(0.05, n - 1)))  # one-sided 95 % limit
    needed = math.ceil(((NORMAL_95 + POWER_80) * most / interest) ** 2)
    return Paired(n, *means, mean, mean - half, mean + half, visible, interest, max(needed, 2))


def check_interest(interest: float, shares: bool) -> None:
    """ArgumentError for a difference of interest that cannot be one."""
    if not 0 < interest <= (1 if shares else MOST):
        raise ArgumentError(f"--interest must be above 0 and at most {1 if shares else MOST:g}, got {interest:g}")


def _pairs(first: Sequence[object], second: Sequence[object]) -> int:
    if len(first) != len(second) or len(first) == 0:
        raise ArgumentError(f"{len(first)} values against {len(second)}; give one each for the same prompts")
    return len(first)


def agresti_min(gained: int, lost: int, n: int) -> tuple[float, float]:
    """95 % interval of (gained - lost) / n, of n pairs: half a pair is added to each of the four cells."""
    up, down, total = gained + 0.5, lost + 0.5, n + 2
    half = NORMAL_95 * math.sqrt(up + down - (up - down) ** 2 / total) / total
    middle = (up - down) / total
    return max(-1.0, middle - half), min(1.0, middle + half)


def _needed(difference: float, discordant: float) -> float:
    root = math.sqrt(max(discordant - difference**2, 0.0))
    return ((NORMAL_95 * math.sqrt(discordant) + POWER_80 * root) / difference) ** 2


def prompts_needed(difference: float, discordant: float) -> int:
    """Prompts that find a difference of shares with 80 % power (McNemar, 5 % two-sided) at a share of discordant ones.

    A difference needs at least as many discordant prompts as itself.
    """
    return min(math.ceil(_needed(difference, max(discordant, difference))), MOST)


def smallest_visible(n: int, discordant: float) -> float | None:
    """The least difference of shares that n prompts find with 80 % power; None where even the largest is not found."""
    low, high = 0.0, discordant
    if high <= 0 or _needed(high, discordant) > n:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        if middle > 0 and _needed(middle, discordant) <= n:
            high = middle
        else:
            low = middle
    return high
