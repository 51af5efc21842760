"""Studies with known strengths: votes of raters who have tastes, on videos that have luck, with ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from hunyuan_video.errors import ArgumentError
from hunyuan_video.evaluation.study.assignment import assigned
from hunyuan_video.evaluation.study.fits import Likelihood
from hunyuan_video.evaluation.study.votes import QUESTIONS, Votes

CHECKS = 10  # pairs with a known loser that each rater is shown


@dataclass(frozen=True)
class World:
    """Sizes and truth of a simulated study; strengths and deviations in logits."""

    strengths: tuple[float, ...] = (0.30, 0.15, 0.10, -0.15, -0.40)
    raters: int = 60
    prompts: int = 1533
    votes: int = 3  # of each pair
    luck: float = 0.7  # deviation of a video, shared by all who see it
    taste: float = 0.3  # deviation of a rater's liking of a system
    left: float = 0.1  # mean advantage of the left side
    left_spread: float = 0.3  # its deviation among raters
    ties: float = 0.6  # weight of a tie in Davidson's model
    clickers: int = 0  # raters who answer at random
    careful: float = 0.95  # chance that another rater is right in a check

    def __post_init__(self) -> None:
        if self.raters < 1:
            raise ArgumentError(f"--raters must be at least 1, got {self.raters}")
        if not 0 <= self.clickers < self.raters:
            raise ArgumentError(f"--clickers must be 0 to {self.raters - 1}, got {self.clickers}")

    @property
    def systems(self) -> tuple[str, ...]:
        """Names in the order of the strengths."""
        return tuple(f"system-{chr(ord('a') + i)}" for i in range(len(self.strengths)))


def simulated(world: World, seed: int, questions: Sequence[str] = QUESTIONS, rows: np.ndarray | None = None) -> Votes:
    """Votes of one study, on new prompts by new raters; the questions differ in their noise alone.

    rows: of `assigned`, [N, 4], to use them again.
    """
    rng = np.random.default_rng(seed)
    count = len(world.strengths)
    if rows is None:
        rows = assigned(world.prompts, count, world.raters, world.votes, rng)
    rater, prompt, left, right = rows.T
    answers = {}
    luck = rng.normal(0, world.luck, (world.prompts, count))
    taste = rng.normal(0, world.taste, (world.raters, count))
    side = rng.normal(world.left, world.left_spread, world.raters)
    value = np.array(world.strengths) + luck  # [prompts, systems]
    for question in questions:
        difference = value[prompt, left] - value[prompt, right] + taste[rater, left] - taste[rater, right] + side[rater]
        difference[rater < world.clickers] = 0.0
        up, down = np.exp(difference / 2), np.exp(-difference / 2)
        draw = rng.random(len(rows)) * (up + down + world.ties)
        answers[question] = np.where(draw < up, 1, np.where(draw < up + down, -1, 0))
    names = tuple(f"rater-{i:02d}" for i in range(world.raters))
    prompts = tuple(f"{i:04d}" for i in range(world.prompts))
    return Votes(names, prompts, world.systems, rater, prompt, left, right, answers)


def true_strengths(world: World) -> np.ndarray:  # [S] logits, mean 0
    """Strengths that Davidson's model finds in infinitely many votes of new raters on new prompts.

    Luck, tastes and sides make the average vote less decided than the strengths of `world`.
    """
    cells, shares = [], []
    count = len(world.strengths)
    for left, right in permutations(range(count), 2):
        for answer, share in zip((1, -1, 0), _mean_shares(world, left, right), strict=True):
            cells.append((left, right, answer))
            shares.append(share)
    found = Likelihood(np.array(cells).T, np.array(shares), count, ties=True).highest()
    strengths = np.concatenate([[0.0], found[: count - 1]])
    return strengths - strengths.mean()


def true_net(world: World, first: int, second: int) -> float:
    """Net preference (win - loss) of the first over the second, half of the votes with each on the left."""
    win, loss, _ = _mean_shares(world, first, second)
    other_loss, other_win, _ = _mean_shares(world, second, first)
    return (win - loss + other_win - other_loss) / 2


def _mean_shares(world: World, left: int, right: int) -> tuple[float, float, float]:
    """Mean chances of left, right and same over luck, tastes and sides, by quadrature."""
    points, weights = np.polynomial.hermite_e.hermegauss(61)
    spread = np.sqrt(2 * (world.luck**2 + world.taste**2) + world.left_spread**2)
    half = (world.strengths[left] - world.strengths[right] + world.left + spread * points) / 2
    total = np.exp(half) + np.exp(-half) + world.ties
    win, loss = (float(weights @ (np.exp(way) / total) / weights.sum()) for way in (half, -half))
    return win, loss, 1 - win - loss


def as_rows(votes: Votes, world: World, seed: int) -> list[dict[str, str]]:
    """The votes and the raters' answers to checks, as rows of votes.csv."""
    words = {1: "left", 0: "same", -1: "right"}
    rows = []
    for i in range(len(votes)):
        row = {name: words[int(values[i])] for name, values in votes.answers.items()}
        row |= {"rater": votes.raters[votes.rater[i]], "prompt": votes.prompts[votes.prompt[i]], "check": ""}
        rows.append(row | {"left": votes.systems[votes.left[i]], "right": votes.systems[votes.right[i]]})
    rng = np.random.default_rng((seed, 1))
    for number, rater in enumerate(votes.raters):
        for i in range(CHECKS):
            right, wrong = ("left", "right") if i % 2 == 0 else ("right", "left")
            chance = 1 / 3 if number < world.clickers else world.careful
            answer = right if rng.random() < chance else wrong
            row = {"rater": rater, "prompt": votes.prompts[i % len(votes.prompts)], "check": right}
            row |= {right: votes.systems[0], wrong: "broken", **dict.fromkeys(QUESTIONS, answer)}
            rows.append(row)
    return rows
