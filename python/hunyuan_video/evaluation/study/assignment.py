"""Assignment of pairs of videos and their sides to raters."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from hunyuan_video.errors import ArgumentError

JITTER = 20.0  # votes: raters whose loads differ by less are taken by lot, so that every two share some pairs


def assigned(
    prompts: int, systems: int, raters: int, votes: int, rng: np.random.Generator, most: int | None = None
) -> np.ndarray:  # int [N, 4]
    """Rows (rater, prompt, left, right): every pair of systems of every prompt is seen by `votes` raters.

    The raters of a pair are those with the least to do, but for a lot; dealing them in turn would leave 97 % of the
    pairs of raters without a common pair of videos. The sides of a pair alternate over its votes. most: of a rater.
    ArgumentError where the raters are too few.
    """
    pairs = list(combinations(range(systems), 2))
    total = prompts * len(pairs) * votes
    if systems < 2 or votes < 1 or prompts < 1:
        raise ArgumentError(f"a study has two systems, a prompt and a vote at least, got {systems}, {prompts}, {votes}")
    if raters < votes:
        raise ArgumentError(f"{votes} raters see every pair, and there are {raters}; invite more")
    if most is not None and total > raters * most:
        raise ArgumentError(f"{total} votes of {raters} raters are more than {most} each; invite more or ask for fewer")
    load = np.zeros(raters)
    rows = np.empty((total, 4), np.int64)
    row = 0
    for prompt in rng.permutation(prompts):
        for pair in rng.permutation(len(pairs)):
            order = load + rng.random(raters) * min(JITTER, total / raters / 4)
            if most is not None:
                order[load >= most] = np.inf
            chosen = np.argsort(order)[:votes]
            if np.isinf(order[chosen]).any():
                raise ArgumentError(f"no {votes} raters with room for another pair are left; invite more")
            first = rng.integers(2)
            for turn, rater in enumerate(chosen):
                a, b = pairs[pair] if (turn + first) % 2 == 0 else pairs[pair][::-1]
                rows[row] = rater, prompt, a, b
                row += 1
            load[chosen] += 1
    return rows
