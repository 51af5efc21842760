"""Tiers: sets of thresholds over the manifest's columns, in YAML. Scores are made once, thresholds are for later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hunyuan_video.curation.manifest import MEASURED, OF_THE_SET
from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.files import read_text

DEFAULT = Path(__file__).resolve().parents[1] / "assets" / "curation" / "tiers.yaml"
KINDS = ("image", "video")
NUMBERS = {"double", "int32", "int64"}


@dataclass(frozen=True)
class Filter:
    """One column's condition."""

    column: str
    low: float | None = None
    high: float | None = None
    words: tuple[str, ...] | None = None
    empty: bool | None = None
    required: bool = False

    def passes(self, row: Mapping[str, Any]) -> bool:
        value = row.get(self.column)
        if self.empty is not None:
            return (value is None) == self.empty
        if value is None:
            return not self.required
        if self.words is not None and value not in self.words:
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.empty is not None:
            return f"{self.column} {'empty' if self.empty else 'given'}"
        if self.words is not None:
            return f"{self.column} in {', '.join(self.words)}"
        low, high = ("" if side is None else f"{side:g}" for side in (self.low, self.high))
        return f"{self.column} {low}..{high}"


@dataclass(frozen=True)
class Tier:
    """A named list of filters for the clips of a kind."""

    name: str
    kind: str
    filters: tuple[Filter, ...]

    def refused_by(self, row: Mapping[str, Any]) -> str | None:
        """The column of the first filter that refuses a clip of this kind."""
        return next((each.column for each in self.filters if not each.passes(row)), None)


def read_tiers(path: Path | None = None) -> list[Tier]:
    """The tiers of a file, default those that come with the package. ArgumentError names what is wrong in it."""
    import yaml

    path = path or DEFAULT
    try:
        content = yaml.safe_load(read_text(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ArgumentError(f"{path} is not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or not content:
        raise ArgumentError(f"{path}: needs tiers, each a name with filters; see docs/curation.md")
    tiers: dict[str, Tier] = {}
    for name, body in content.items():
        tiers[str(name)] = _tier(path, str(name), body, tiers)
    return list(tiers.values())


def _tier(path: Path, name: str, body: Any, before: Mapping[str, Tier]) -> Tier:
    if not isinstance(body, dict) or set(body) - {"kind", "base", "filters"} or not body.get("filters"):
        raise ArgumentError(f"{path}: tier {name} needs filters, and may have kind and base")
    base = body.get("base")
    if base is not None and str(base) not in before:
        raise ArgumentError(f"{path}: tier {name}: base {base} must be one of the tiers before it: {', '.join(before)}")
    inherited = before[str(base)] if base is not None else None
    kind = body.get("kind", inherited.kind if inherited else "video")
    if kind not in KINDS:
        raise ArgumentError(f"{path}: tier {name}: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if not isinstance(body["filters"], dict):
        raise ArgumentError(f"{path}: tier {name}: filters must be columns with conditions")
    filters = {each.column: each for each in inherited.filters} if inherited else {}
    for column, condition in body["filters"].items():
        filters[column] = _filter(f"{path}: tier {name}: {column}", column, condition)
    return Tier(name, kind, tuple(filters.values()))


def _filter(place: str, column: Any, condition: Any) -> Filter:
    kinds = {**MEASURED, **OF_THE_SET}
    if column not in kinds:
        raise ArgumentError(f"{place}: no such column; the columns are {', '.join(kinds)}")
    if not isinstance(condition, dict) or not condition or set(condition) - {"min", "max", "in", "empty", "required"}:
        raise ArgumentError(f"{place}: needs min, max, in, empty or required, got {condition!r}")
    low, high = condition.get("min"), condition.get("max")
    for side in (low, high):
        number = isinstance(side, (int, float)) and not isinstance(side, bool)
        if side is not None and (not number or kinds[column] not in NUMBERS):
            raise ArgumentError(f"{place}: min and max are numbers, and for columns of numbers; got {side!r}")
    words = condition.get("in")
    if words is not None and (not isinstance(words, list) or kinds[column] != "string"):
        raise ArgumentError(f"{place}: in needs a list of words, for columns of words")
    for flag in ("empty", "required"):
        if not isinstance(condition.get(flag, False), bool):
            raise ArgumentError(f"{place}: {flag} must be true or false")
    words = None if words is None else tuple(map(str, words))
    return Filter(column, low, high, words, condition.get("empty"), condition.get("required", False))


def assign(row: dict[str, Any], tiers: Sequence[Tier]) -> None:
    """Sets `tiers`, `refusals` (JSON: tier -> the filter that refuses the clip) and `refused_by`, the lowest tier's."""
    own = [tier for tier in tiers if tier.kind == row["kind"]]
    refusals = [tier.refused_by(row) for tier in own]
    row["tiers"] = [tier.name for tier, refusal in zip(own, refusals, strict=True) if refusal is None]
    refusing = {tier.name: refusal for tier, refusal in zip(own, refusals, strict=True) if refusal is not None}
    row["refusals"] = json.dumps(refusing)
    row["refused_by"] = refusals[0] if own else "kind"


def funnel(rows: Sequence[Mapping[str, Any]], tier: Tier) -> list[tuple[Filter, int, int]]:
    """(filter, clips that reach it, clips that it keeps), in order."""
    left = [row for row in rows if row["kind"] == tier.kind]
    counts = []
    for each in tier.filters:
        kept = [row for row in left if each.passes(row)]
        counts.append((each, len(left), len(kept)))
        left = kept
    return counts
