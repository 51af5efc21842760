"""Compute that a poor choice of size costs, from the committed curves of the tiny scaling study.

    python recipes/evidence/scaling.py [recipes/scaling/tiny/curves.parquet]

For each budget but the largest: the loss that the best size ends at, and the compute at which every other size ends at
that loss, between its own budgets in the logarithm of compute. "more than": not reached by the largest budget.
"""

from __future__ import annotations

import sys

import numpy as np

from hunyuan_video.training.scaling.curves import read_curves
from hunyuan_video.training.scaling.picture import by_budget

CURVES = "recipes/scaling/tiny/curves.parquet"


def main() -> None:
    curves = read_curves(sys.argv[1] if len(sys.argv) > 1 else CURVES)
    print("| budget, PetaFLOP | loss | size, M | size beside the best | compute beside the best |")
    print("|---" * 5 + "|")
    for budget in by_budget(curves)[:-1]:
        best = min(budget, key=lambda curve: float(curve.loss[-1]))
        least, spent = float(best.loss[-1]), float(best.compute[-1])
        for size in sorted({curve.parameters for curve in curves}):
            ends = sorted((float(c.loss[-1]), float(c.compute[-1])) for c in curves if c.parameters == size)
            losses, compute = zip(*ends, strict=True)
            if least < losses[0]:
                factor = f"more than {max(compute) / spent:.1f}"
            else:
                factor = f"{np.exp(np.interp(least, losses, np.log(compute))) / spent:.2f}"
            print(f"| {spent:.1g} | {least:.3f} | {1e3 * size:.2f} | {size / best.parameters:.2f} | {factor} |")


if __name__ == "__main__":
    main()
