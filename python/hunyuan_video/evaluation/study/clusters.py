"""Errors of estimates from votes that share prompts and raters.

The variance of an estimate is the sum over clusters of the squared sums of the votes' influences. Two clusterings are
combined as Cameron, Gelbach and Miller (2011): prompts + raters - votes. Student's t with the number of clusters of
the scarcer kind - 1 stands for the few raters of a study.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hunyuan_video.evaluation.intervals import scipy_stats

POPULATION = "new prompts and new raters"


@dataclass(frozen=True)
class Covariance:
    """Covariances of estimates, [P, P] each, by what would be drawn again."""

    both: np.ndarray  # new prompts and new raters
    prompts: np.ndarray  # new prompts, these raters
    raters: np.ndarray  # these prompts, new raters
    votes: np.ndarray  # neither: too small wherever votes share prompts or raters
    quantile: float  # of Student's t, 97.5 %

    def interval(self, estimate: float, weights: np.ndarray) -> dict[str, float]:  # [P]
        """The estimate of a weighted sum, its 95 % interval, and its errors by population."""
        errors = {
            f"error_{name}": float(np.sqrt(max(weights @ getattr(self, name) @ weights, 0.0)))
            for name in ("both", "prompts", "raters", "votes")
        }
        if errors["error_both"] == 0.0:
            errors["error_both"] = max(errors["error_prompts"], errors["error_raters"])
        half = self.quantile * errors["error_both"]
        return {"value": estimate, "low": estimate - half, "high": estimate + half, **errors}


def two_way(influence: np.ndarray, prompt: np.ndarray, rater: np.ndarray) -> Covariance:  # [N, P], int [N], int [N]
    """Covariance of estimates whose error is the sum of the votes' influences."""
    by = {"prompts": _clustered(influence, prompt), "raters": _clustered(influence, rater)}
    votes = influence.T @ influence
    both = by["prompts"] + by["raters"] - votes
    least = min(len(np.unique(prompt)), len(np.unique(rater)))
    quantile = float(scipy_stats().t.ppf(0.975, max(least - 1, 1)))
    return Covariance(both, by["prompts"], by["raters"], votes, quantile)


def _clustered(influence: np.ndarray, cluster: np.ndarray) -> np.ndarray:  # [N, P], int [N] -> [P, P]
    names, place = np.unique(cluster, return_inverse=True)
    sums = np.zeros((len(names), influence.shape[1]))
    np.add.at(sums, place, influence)
    few = len(names) / max(len(names) - 1, 1)  # clusters that were also used to find the middle
    return few * sums.T @ sums


def share_interval(values: np.ndarray, prompt: np.ndarray, rater: np.ndarray) -> dict[str, float]:  # [N] each
    """Mean of values of votes with its interval."""
    mean = float(values.mean())
    influence = ((values - mean) / len(values))[:, None]
    return two_way(influence, prompt, rater).interval(mean, np.ones(1))
