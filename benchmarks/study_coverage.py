"""Coverage of a study's 95 % intervals over simulated studies of known strengths.

    python -m benchmarks.study_coverage [--studies 400] [--raters 60 --prompts 1533 --systems 5 --votes 3]

For the net preference and the Davidson difference of every two systems: the share of studies whose interval holds the
truth, by what is drawn again in the errors. The truth is that of infinitely many votes of new raters on new prompts.
"""

from __future__ import annotations

import argparse
from itertools import combinations

import numpy as np

from hunyuan_video.evaluation.intervals import NORMAL_95
from hunyuan_video.evaluation.study.assignment import assigned
from hunyuan_video.evaluation.study.clusters import share_interval
from hunyuan_video.evaluation.study.fits import fit
from hunyuan_video.evaluation.study.simulate import World, simulated, true_net, true_strengths

KINDS = ("votes", "prompts", "raters", "both")


def coverage(world: World, studies: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """{"net" | "davidson": {kind of error: share of intervals that hold the truth, over studies and pairs}}, and with
    "order" the share of studies whose strengths come in the true order.
    """
    count = len(world.strengths)
    pairs = list(combinations(range(count), 2))
    strengths, nets = true_strengths(world), {pair: true_net(world, *pair) for pair in pairs}
    rows = assigned(world.prompts, count, world.raters, world.votes, np.random.default_rng(seed))
    held: dict[str, dict[str, list[bool]]] = {name: {kind: [] for kind in KINDS} for name in ("net", "davidson")}
    order = []
    for study in range(studies):
        votes = simulated(world, seed + 1 + study, ("overall",), rows)
        found = fit(votes, "overall", ties=True)
        order.append(bool((np.argsort(-found.strengths) == np.arange(count)).all()))
        for a, b in pairs:
            here = np.isin(votes.left, (a, b)) & np.isin(votes.right, (a, b))
            values = np.where(votes.left[here] == a, 1.0, -1.0) * votes.answers["overall"][here]
            net = share_interval(values, votes.prompt[here], votes.rater[here])
            for name, row, truth in (
                ("net", net, nets[a, b]),
                ("davidson", found.difference(a, b), strengths[a] - strengths[b]),
            ):
                for kind in KINDS[:-1]:
                    held[name][kind].append(abs(row["value"] - truth) <= NORMAL_95 * row[f"error_{kind}"])
                held[name]["both"].append(row["low"] <= truth <= row["high"])
    result = {name: {kind: float(np.mean(values)) for kind, values in kinds.items()} for name, kinds in held.items()}
    return {**result, "order": {"recovered": float(np.mean(order))}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--raters", type=int, default=60)
    parser.add_argument("--prompts", type=int, default=1533)
    parser.add_argument("--systems", type=int, default=5, choices=range(2, 6))
    parser.add_argument("--votes", type=int, default=3)
    parser.add_argument("--taste", type=float, default=0.3)
    args = parser.parse_args()
    sizes = {"raters": args.raters, "prompts": args.prompts, "votes": args.votes, "taste": args.taste}
    world = World(strengths=World.strengths[: args.systems], **sizes)
    for name, row in coverage(world, args.studies).items():
        print(name, ", ".join(f"{kind} {value:.3f}" for kind, value in row.items()))


if __name__ == "__main__":
    main()
