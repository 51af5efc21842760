"""`hunyuan-video curate calibrate`: percentiles of every score, and thresholds for a wanted keep-rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hunyuan_video.curation.manifest import FILE, read_rows
from hunyuan_video.curation.tiers import Filter, Tier, read_tiers
from hunyuan_video.errors import ArgumentError, UserError

SHARES = (1, 5, 10, 25, 50, 75, 90, 95, 99)  # percent
# Scores whose thresholds no paper gives; sizes, durations and duplicates are requirements and stay as they are.
TUNABLE = ("motion", "shake", "frozen", "brightness", "sharpness", "text_left", "logo_left", "technical", "aesthetic")
ROUNDS = 30  # of halving the share that each threshold takes away

Rows = Sequence[Mapping[str, Any]]


def calibrate(output: Path, tier: str | None = None, keep: float = 0.5, tiers: Path | None = None) -> Iterator[str]:
    """Lines of YAML: percentiles as comments, then a tier whose thresholds keep `keep` of the clips that may be kept.

    tier: of the tiers file, default its first one for videos. Each threshold takes away the same share of the clips, so
    none of the scores decides alone. UserError without clips, ArgumentError for a tier that is not there.
    """
    if not 0 < keep <= 1:
        raise ArgumentError(f"keep must lie in 0..1, got {keep:g}")
    chosen = _tier(read_tiers(tiers), tier)
    rows = [row for row in read_rows(output / FILE) if row["kind"] == chosen.kind]
    if not rows:
        raise UserError(f"{output / FILE}: holds no clips of kind {chosen.kind} to calibrate with")
    yield f"# {len(rows)} clips of kind {chosen.kind}. Percentiles of their scores:"
    for name in TUNABLE:
        values = _values(rows, name)
        if len(values):
            cells = "  ".join(f"{share}%: {np.percentile(values, share):.3g}" for share in SHARES)
            yield f"#   {name:<12} {cells}"
    required = [each for each in chosen.filters if each.column not in TUNABLE]
    usable = [row for row in rows if all(each.passes(row) for each in required)]
    if not usable:
        raise UserError(f"no clip passes what tier {chosen.name} requires ({', '.join(map(str, required))})")
    proposed = propose(chosen, usable, keep)
    kept = sum(proposed.refused_by(row) is None for row in usable)
    yield f"# {len(usable)} clips pass what the tier requires; these thresholds keep {kept} ({kept / len(usable):.0%})."
    yield from _yaml(proposed)


def propose(tier: Tier, rows: Rows, keep: float) -> Tier:
    """The tier with new thresholds of `TUNABLE` columns: the strictest that keep at least `keep` of the rows."""
    low, high = 0.0, 1.0
    for _ in range(ROUNDS):
        share = (low + high) / 2
        candidate = _at(tier, rows, share)
        if sum(candidate.refused_by(row) is None for row in rows) >= keep * len(rows):
            low = share
        else:
            high = share
    return _at(tier, rows, low)


def _at(tier: Tier, rows: Rows, share: float) -> Tier:
    """The tier whose every threshold takes away `share` of the rows, from one side or half of it from both."""
    return replace(tier, filters=tuple(_moved(each, _values(rows, each.column), share) for each in tier.filters))


def _moved(each: Filter, values: np.ndarray, share: float) -> Filter:
    if each.column not in TUNABLE or not len(values) or (each.low is None and each.high is None):
        return each
    part = share if each.low is None or each.high is None else share / 2
    low = None if each.low is None else float(np.quantile(values, part, method="lower"))
    high = None if each.high is None else float(np.quantile(values, 1 - part, method="higher"))
    return replace(each, low=low, high=high)


def _values(rows: Rows, column: str) -> np.ndarray:  # float64 [N]
    return np.array([row[column] for row in rows if row.get(column) is not None], float)


def _tier(tiers: Sequence[Tier], name: str | None) -> Tier:
    if name is None:
        return next((tier for tier in tiers if tier.kind == "video"), tiers[0])
    for tier in tiers:
        if tier.name == name:
            return tier
    raise ArgumentError(f"no tier {name}; the tiers are {', '.join(tier.name for tier in tiers)}")


def _yaml(tier: Tier) -> Iterator[str]:
    import yaml

    yield f"{yaml.safe_dump(tier.name).splitlines()[0]}:"
    yield f"  kind: {tier.kind}"
    yield "  filters:"
    for each in tier.filters:
        condition: dict[str, Any] = {}
        for name, value in (("min", each.low), ("max", each.high), ("empty", each.empty)):
            if value is not None:
                condition[name] = value
        if each.words is not None:
            condition["in"] = list(each.words)
        if each.required:
            condition["required"] = True
        yield f"    {each.column}: {yaml.safe_dump(condition, default_flow_style=True, width=1000).strip()}"
