"""Strengths of systems from votes on pairs: Davidson's model with ties, and Bradley and Terry's without them.

With d the difference of strengths (logits) and b the advantage of the left, the outcomes left, right and same have the
weights e^((d + b) / 2), e^(-(d + b) / 2) and nu (Davidson 1970). Both are fitted by maximum likelihood, with scipy:
packages know no side and no clusters, and some return equal scores for all where one system is unbeaten, or a ranking
of systems that never met. So both are found before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hunyuan_video.evaluation.study.clusters import Covariance, two_way
from hunyuan_video.evaluation.study.votes import Votes
from hunyuan_video.lazy import optional_package


@dataclass(frozen=True)
class Fit:
    """Strengths [S] in logits, of mean 0, with the errors of all parameters (strengths, left, log nu)."""

    model: str  # "davidson" or "bradley_terry"
    strengths: np.ndarray  # [S]
    left: float  # advantage of the left, logits
    log_nu: float | None
    covariance: Covariance

    def strength(self, system: int) -> dict[str, float]:
        """A system's strength with its interval."""
        return self.covariance.interval(float(self.strengths[system]), self._weights(system))

    def difference(self, first: int, second: int) -> dict[str, float]:
        """Strength of the first - of the second, with its interval."""
        value = float(self.strengths[first] - self.strengths[second])
        return self.covariance.interval(value, self._weights(first) - self._weights(second))

    def _weights(self, system: int) -> np.ndarray:
        return np.eye(len(self.covariance.both))[system]


def obstacle(votes: Votes, question: str) -> str | None:
    """Reason why strengths cannot be estimated: systems that never met, or some that never lost to the others."""
    count = len(votes.systems)
    beaten = np.zeros((count, count), bool)  # [i, j]: i has won or tied against j
    answer = votes.answers[question]
    beaten[votes.left[answer >= 0], votes.right[answer >= 0]] = True
    beaten[votes.right[answer <= 0], votes.left[answer <= 0]] = True
    graph = optional_package("scipy.sparse.csgraph", "the analysis of a study", "eval")
    parts, labels = graph.connected_components(beaten, directed=True, connection="weak")

    def names(chosen: np.ndarray) -> str:
        return ", ".join(name for name, yes in zip(votes.systems, chosen, strict=True) if yes)

    if parts > 1:
        return (
            f"{names(labels == labels[0])} and {names(labels != labels[0])} never met: their strengths have no relation"
        )
    parts, labels = graph.connected_components(beaten, directed=True, connection="strong")
    if parts == 1:
        return None
    for label in range(parts):
        inside = labels == label
        if not beaten[np.ix_(~inside, inside)].any():
            return f"{names(inside)} won every vote against {names(~inside)}: the difference has no upper end"
    raise AssertionError("a part of a graph that is connected weakly only has one that nobody enters")


def fit(votes: Votes, question: str, *, ties: bool) -> Fit:
    """Maximum likelihood with errors that know prompts and raters; without ties: of the other votes alone.

    Ask `obstacle` first: without it the likelihood may have no maximum.
    """
    if not ties:
        votes = votes.where(votes.answers[question] != 0)
    count = len(votes.systems)
    cells, place = np.unique(np.stack([votes.left, votes.right, votes.answers[question]]), axis=1, return_inverse=True)
    likelihood = Likelihood(cells, np.bincount(place.ravel(), minlength=cells.shape[1]), count, ties)
    parameters = likelihood.highest()
    influence = likelihood.scores(parameters)[place.ravel()] @ np.linalg.pinv(likelihood.hessian(parameters))
    center = np.eye(len(parameters) + 1)
    center[:count, :count] -= 1 / count
    centered = np.concatenate([np.zeros((len(votes), 1)), influence], 1) @ center.T
    parameters = center @ np.concatenate([[0.0], parameters])
    return Fit(
        "davidson" if ties else "bradley_terry", parameters[:count], float(parameters[count]),
        float(parameters[-1]) if ties else None, two_way(centered, votes.prompt, votes.rater),
    )  # fmt: skip


class Likelihood:
    """Log likelihood of counted votes in the strengths but the first (which is 0), the left's advantage and log nu."""

    def __init__(
        self, cells: np.ndarray, number: np.ndarray, count: int, ties: bool
    ):  # int [3, C]: left, right, answer
        self.number = number
        rows, outcomes = np.arange(cells.shape[1]), np.where(cells[2] == 1, 0, np.where(cells[2] == -1, 1, 2))
        self.seen = rows, outcomes
        self.features = _features(cells[0], cells[1], count, ties)[..., 1:]  # [C, outcomes, P]

    def shares(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability of each outcome, [C, outcomes], and the log of those seen, [C]."""
        logits = self.features @ parameters
        logits -= logits.max(1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return np.exp(logs), logs[self.seen]

    def scores(self, parameters: np.ndarray) -> np.ndarray:
        """Gradient of the log likelihood of one vote of each cell, [C, P]."""
        share, _ = self.shares(parameters)
        return self.features[self.seen] - np.einsum("co,cop->cp", share, self.features)

    def hessian(self, parameters: np.ndarray) -> np.ndarray:
        """Second derivatives of - the log likelihood, [P, P]."""
        share, _ = self.shares(parameters)
        mean = np.einsum("co,cop->cp", share, self.features)
        second = np.einsum("c,co,cop,coq->pq", self.number, share, self.features, self.features)
        return second - np.einsum("c,cp,cq->pq", self.number, mean, mean)

    def highest(self) -> np.ndarray:
        """The parameters of most likelihood, [P]."""
        optimize = optional_package("scipy.optimize", "the analysis of a study", "eval")
        total = self.number.sum()
        found = optimize.minimize(
            lambda x: -float(self.number @ self.shares(x)[1]) / total,
            np.zeros(self.features.shape[-1]),
            jac=lambda x: -self.number @ self.scores(x) / total,
            hess=lambda x: self.hessian(x) / total,
            method="trust-exact",
            options={"gtol": 1e-8},
        )
        return found.x


def _features(left: np.ndarray, right: np.ndarray, count: int, ties: bool) -> np.ndarray:
    """Factors of a cell and outcome (left, right, same) for (strengths, left, log nu): [cells, outcomes, P]."""
    rows = np.arange(len(left))
    features = np.zeros((len(left), 2 + ties, count + 1 + ties))
    for outcome, sign in ((0, 0.5), (1, -0.5)):
        features[rows, outcome, left] += sign
        features[rows, outcome, right] -= sign
        features[:, outcome, count] = sign
    if ties:
        features[:, 2, -1] = 1.0
    return features
