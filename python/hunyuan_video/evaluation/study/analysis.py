"""Results of a study: wins, ties and losses, strengths, agreement, with and without the raters who fail the checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from hunyuan_video.evaluation.study.clusters import POPULATION, share_interval
from hunyuan_video.evaluation.study.fits import fit, obstacle
from hunyuan_video.evaluation.study.votes import Checks, Votes
from hunyuan_video.lazy import optional_package


@dataclass(frozen=True)
class Rule:
    """The raters who are left out, fixed before the study: less than this share of enough checks right."""

    least_share: float = 0.8
    least_checks: int = 10

    def excluded(self, checks: Checks) -> list[str]:
        """Raters who fail, in order."""
        enough = [rater for rater, given in checks.given.items() if given >= self.least_checks]
        return sorted(rater for rater in enough if checks.right[rater] < self.least_share * checks.given[rater])


def analysis(
    votes: Votes, checks: Checks, rule: Rule, categories: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, Any]:
    """Results of the raters who are kept and of all, JSON types; `categories` of prompts, by their names."""
    excluded = rule.excluded(checks)
    kept = votes.where(~np.isin(np.array(votes.raters)[votes.rater], excluded))
    unchecked = sorted(name for name in votes.raters if checks.given.get(name, 0) < rule.least_checks)
    result = {
        "population": POPULATION,
        "systems": list(votes.systems),
        "rule": f"out: raters with less than {rule.least_share:.0%} of at least {rule.least_checks} checks right",
        "excluded": excluded,
        "unchecked": unchecked,
        "all": summary(votes),
    }
    result["kept"] = summary(kept) if excluded and len(kept) else result["all"]
    if categories:
        result["categories"] = by_category(kept, categories)
    return result


def summary(votes: Votes) -> dict[str, Any]:
    """Counts and strengths of a set of votes by question, and the share that is as good or better in all of them."""
    used = len(np.unique(votes.rater)), len(np.unique(votes.prompt))
    questions = {name: _question(votes, name) for name in votes.answers}
    return {"votes": len(votes), "raters": used[0], "prompts": used[1], "questions": questions, "table": table(votes)}


def _question(votes: Votes, question: str) -> dict[str, Any]:
    answer = votes.answers[question]
    result: dict[str, Any] = {
        "ties": float((answer == 0).mean()),
        "left": share_interval(answer.astype(float), votes.prompt, votes.rater),
        "pairs": {f"{a} - {b}": row for (a, b), row in _pairs(votes, answer).items()},
        "agreement": agreement(votes, question),
    }
    reason = obstacle(votes, question)
    result["obstacle"] = reason
    decided = votes.where(answer != 0)
    for name, ties in (("davidson", True), ("bradley_terry", False)):
        why = reason if ties else obstacle(decided, question) if len(decided) else "every vote is a tie"
        if why is None and not (ties and not (answer == 0).any()):
            found = fit(votes, question, ties=ties)
            result[name] = {
                "strengths": {system: found.strength(i) for i, system in enumerate(votes.systems)},
                "differences": {
                    f"{votes.systems[a]} - {votes.systems[b]}": found.difference(a, b)
                    for a, b in combinations(range(len(votes.systems)), 2)
                },
                "left": found.left,
                "order": [votes.systems[i] for i in np.argsort(-found.strengths)],
            }
        else:
            result[name] = None
    return result


def _pairs(votes: Votes, answer: np.ndarray) -> dict[tuple[str, str], dict[str, Any]]:
    """Win, tie and loss of each two systems that met, and the net preference (win - loss) with its interval."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for a, b in combinations(range(len(votes.systems)), 2):
        here = ((votes.left == a) & (votes.right == b)) | ((votes.left == b) & (votes.right == a))
        if not here.any():
            continue
        for_first = np.where(votes.left[here] == a, 1, -1) * answer[here]
        counts = {name: int((for_first == value).sum()) for name, value in (("win", 1), ("tie", 0), ("loss", -1))}
        net = share_interval(for_first.astype(float), votes.prompt[here], votes.rater[here])
        rows[votes.systems[a], votes.systems[b]] = {**counts, "net": net}
    return rows


def agreement(votes: Votes, question: str) -> dict[str, Any]:
    """Krippendorff's alpha, ordinal, of the votes on one pair of videos; None with a reason where it has no value.

    It is low where systems are close, however good the raters are: never a gate.
    """
    krippendorff = optional_package("krippendorff", "agreement of raters", "eval")
    first = np.minimum(votes.left, votes.right)
    sign = np.where(votes.left == first, 1, -1)
    unit = np.stack([votes.prompt, first, np.maximum(votes.left, votes.right)])
    _, place = np.unique(unit, axis=1, return_inverse=True)
    counts = np.zeros((place.max() + 1, 3), int)
    np.add.at(counts, (place.ravel(), sign * votes.answers[question] + 1), 1)
    if (counts.sum(1) < 2).all():
        return {"alpha": None, "reason": "no pair of videos was seen by two raters"}
    if (counts[counts.sum(1) > 1].sum(0) > 0).sum() < 2:
        return {"alpha": None, "reason": "all votes are equal"}
    alpha = krippendorff.alpha(value_counts=counts, value_domain=[-1, 0, 1], level_of_measurement="ordinal")
    return {"alpha": float(alpha), "reason": None}


def table(votes: Votes) -> dict[str, dict[str, Any]]:
    """For each system the share of its votes that were no loss, by question and in all of them, with intervals.

    The form of the paper's table; its numbers are shares of videos that passed, which votes on pairs do not have.
    """
    rows = {}
    for number, system in enumerate(votes.systems):
        here = (votes.left == number) | (votes.right == number)
        if not here.any():
            continue
        sign = np.where(votes.left[here] == number, 1, -1)
        passed = {name: sign * values[here] >= 0 for name, values in votes.answers.items()}
        passed["all three"] = passed["text"] & passed["motion"] & passed["visual"]
        places = votes.prompt[here], votes.rater[here]
        rows[system] = {name: share_interval(values.astype(float), *places) for name, values in passed.items()}
    return rows


def by_category(votes: Votes, categories: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, Any]]:
    """Net preference of each system over those that it met, overall, by category of the prompts."""
    own = [categories.get(prompt, ()) for prompt in votes.prompts]
    rows: dict[str, dict[str, Any]] = {}
    for category in sorted({name for names in own for name in names}):
        member = np.array([category in names for names in own])
        part = votes.where(member[votes.prompt])
        rows[category] = {"votes": len(part)}
        for number, system in enumerate(votes.systems):
            here = (part.left == number) | (part.right == number)
            if here.any():
                net = np.where(part.left[here] == number, 1.0, -1.0) * part.answers["overall"][here]
                rows[category][system] = share_interval(net, part.prompt[here], part.rater[here])
    return rows


def as_markdown(result: dict[str, Any]) -> str:
    """Tables of the raters who are kept, and the strengths of all beside them."""
    kept, everyone = result["kept"], result["all"]
    lines = [
        f"{kept['votes']} votes of {kept['raters']} raters on {kept['prompts']} prompts",
        f"{result['rule']}: {', '.join(result['excluded']) or 'nobody'}",
        f"95 % intervals for {result['population']}",
        "",
    ]
    columns = ("text", "motion", "visual", "all three", "overall")
    lines += ["| no loss | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for system, row in kept["table"].items():
        cells = (f"{row[c]['value']:.1%} ({row[c]['low']:.1%} to {row[c]['high']:.1%})" for c in columns)
        lines.append(f"| {system} | " + " | ".join(cells) + " |")
    for question, found in kept["questions"].items():
        alpha = found["agreement"]["alpha"]
        agreed = found["agreement"]["reason"] if alpha is None else f"{alpha:.2f}"
        lines += ["", f"{question}: {found['ties']:.0%} ties, agreement (alpha, ordinal) {agreed}"]
        for pair, row in found["pairs"].items():
            line = f"- {pair}: {row['win']} wins, {row['tie']} ties, {row['loss']} losses; net {_signed(row['net'])}"
            if result["excluded"]:
                line += f"; all raters {_signed(everyone['questions'][question]['pairs'][pair]['net'])}"
            lines.append(line)
        if found["obstacle"]:
            lines.append(f"no strengths: {found['obstacle']}")
        for model in ("davidson", "bradley_terry"):
            if found[model]:
                lines += _strength_lines(model, found[model], everyone["questions"][question][model])
    return "\n".join(lines)


def _signed(row: Mapping[str, float]) -> str:
    return f"{row['value']:+.1%} ({row['low']:+.1%} to {row['high']:+.1%})"


def _strength_lines(model: str, found: dict[str, Any], everyone: dict[str, Any] | None) -> list[str]:
    lines = [f"| {model}, logits | strength | 95 % interval | all raters |", "|---|---|---|---|"]
    for system in found["order"]:
        row = found["strengths"][system]
        other = "" if everyone is None else f"{everyone['strengths'][system]['value']:+.3f}"
        lines.append(f"| {system} | {row['value']:+.3f} | {row['low']:+.3f} to {row['high']:+.3f} | {other} |")
    return lines
