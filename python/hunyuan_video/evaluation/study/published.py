"""The arithmetic of the paper's Table 3 (arXiv 2412.03603), from its published percentages.

Its columns are shares of videos that passed, one verdict a video as far as is known: no wins, no strengths. "Overall"
is not defined; it behaves as the share that passes all three criteria.
"""

from __future__ import annotations

import math
from typing import Any

from hunyuan_video.evaluation.intervals import NORMAL_95

PROMPTS = 1533
CRITERIA = ("text", "motion", "visual", "overall")
TABLE = {  # per cent
    "HunyuanVideo": (61.8, 66.5, 95.7, 41.3),
    "CNTopA": (62.6, 61.7, 95.6, 37.7),
    "CNTopB": (60.1, 62.9, 97.7, 37.5),
    "Gen-3 alpha": (47.7, 54.7, 97.5, 27.4),
    "Luma 1.6": (57.6, 44.2, 94.1, 24.8),
    "CNTopC": (48.4, 47.2, 96.3, 24.6),
}


def published() -> dict[str, Any]:
    """Counts, 95 % intervals, the product beside "overall" and its bounds, and z of HunyuanVideo against the others.

    The intervals know sampling alone: the raters of the study are not published, so they are too narrow.
    """
    systems = {}
    for name, row in TABLE.items():
        text, motion, visual, overall = row
        product = text * motion * visual / 1e4
        systems[name] = {
            "counts": {c: round(v * PROMPTS / 100) for c, v in zip(CRITERIA, row, strict=True)},
            "half_interval": {c: NORMAL_95 * 100 * _error(v) for c, v in zip(CRITERIA, row, strict=True)},
            "product": product,
            "overall_to_product": overall / product,
            "bounds": (max(0.0, text + motion + visual - 200), min(text, motion, visual)),
        }
    first = TABLE["HunyuanVideo"]
    z = {
        name: {c: _z(a, b) for c, a, b in zip(CRITERIA, first, row, strict=True)}
        for name, row in TABLE.items()
        if name != "HunyuanVideo"
    }
    return {
        "prompts": PROMPTS,
        "sums": {c: sum(row[i] for row in TABLE.values()) for i, c in enumerate(CRITERIA)},
        "least_verdicts": least_denominator(),
        "order": sorted(TABLE, key=lambda name: -TABLE[name][3]),
        "systems": systems,
        "z": z,
    }


def _error(percent: float) -> float:
    share = percent / 100
    return math.sqrt(share * (1 - share) / PROMPTS)


def _z(first: float, second: float) -> float:
    """Difference of two shares of as many independent verdicts, in standard errors."""
    mean = (first + second) / 200
    return (first - second) / 100 / math.sqrt(2 * mean * (1 - mean) / PROMPTS)


def least_denominator(most: int = PROMPTS) -> int | None:
    """The least number of verdicts a system with which all of the table's digits are possible."""
    values = sorted({value for row in TABLE.values() for value in row})
    for count in range(1, most + 1):
        if all(_is_possible(value, count) for value in values):
            return count
    return None


def _is_possible(percent: float, count: int) -> bool:
    near = math.floor(percent * count / 100)
    return any(round(1000 * k / count) == round(10 * percent) for k in (near, near + 1) if k <= count)
