"""What the benchmarks found: one measurement, results as JSON, and tables of measurements in Markdown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.timing import Times

RESULTS = Path(__file__).with_name("results")
OURS = "hunyuan-ext"
PEER = "diffusers"
PLAIN = "default"  # the C library's allocator


@dataclass(frozen=True)
class Measurement:
    """One contender at one task. unit: "s" or "bytes". difference: the relative root mean square difference
    from the exact result (of operations: the largest absolute one). allocator: how the process got its memory.
    beside: this package's median in the same race, in turn with this contender.
    """

    task: str
    size: str
    dtype: str
    contender: str
    unit: str
    median: float
    minimum: float
    rounds: int
    difference: float | None = None
    allocator: str = PLAIN
    beside: float | None = None

    @classmethod
    def timed(
        cls, task: str, size: str, dtype: str, contender: str, times: Times, difference: float | None = None,
        beside: float | None = None,
    ) -> Measurement:  # fmt: skip
        taken = times.median, times.minimum, times.rounds
        return cls(task, size, dtype, contender, "s", *taken, difference, beside=beside)

    def ratio(self, ours: Measurement) -> float:
        """How many times as much as this package it needs.

        Where both had the C library's allocator and ran in turn, against that race: the machine's speed changes from
        one part to the next. Otherwise against `ours`.
        """
        together = self.allocator == PLAIN == ours.allocator and self.beside is not None
        return self.median / (self.beside if together else ours.median)  # type: ignore[operator]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.task, self.size, self.dtype

    @property
    def is_peer(self) -> bool:
        """Someone else's way of doing the same work."""
        return not self.contender.startswith(OURS) and "less work" not in self.contender

    @property
    def variant(self) -> str:
        return self.contender if self.allocator == PLAIN else f"{self.contender}, {self.allocator}"


def relative_difference(output: Any, expected: Any) -> float:
    """Root mean square of output - expected over that of expected, of two tensors."""
    return float((output.double() - expected.double()).norm() / expected.double().norm())


def load_results(path: Path) -> dict[str, Any]:
    """{"machine": ..., "sections": {name: {..., "measurements": [...]}}}; empty where there is no file."""
    if not path.exists():
        return {"machine": {}, "sections": {}}
    return json.loads(path.read_text(encoding="utf-8"))


def save_results(path: Path, results: dict[str, Any]) -> None:
    write(path, json.dumps(results, indent=1) + "\n")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(path.name + ".part")
    staged.write_text(text, encoding="utf-8")
    os.replace(staged, path)


def as_section(measurements: Iterable[Measurement], **facts: Any) -> dict[str, Any]:
    return {**facts, "measurements": [asdict(one) for one in measurements]}


def measurements_of(section: dict[str, Any]) -> list[Measurement]:
    return [Measurement(**one) for one in section["measurements"]]


def comparison(measurements: Sequence[Measurement]) -> str:
    """A row per task, size and dtype: this package, diffusers (or the first peer), the best peer, and the ratios.

    A ratio above 1 says that this package needs less (`Measurement.ratio`). The best peer is the one with the smallest
    ratio among all peers and allocators; this package's number is the one under the default allocator.
    """
    head = ("task", "size", "dtype", OURS, "peer", "ratio", "best peer variant", "ratio", "difference ours / peer")
    rows = [head, tuple("---" for _ in head)]
    for key in dict.fromkeys(one.key for one in measurements):
        group = [one for one in measurements if one.key == key]
        ours = next((one for one in group if one.contender == OURS and one.allocator == PLAIN), None)
        peers = [one for one in group if one.is_peer]
        if ours is None:
            continue
        first = next((one for one in peers if one.allocator == PLAIN), None)
        rows.append((*key, _number(ours), *_against(ours, first, peers)))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def same_allocator(measurements: Sequence[Measurement]) -> str:
    """A row per task, size, dtype and allocator that both this package and diffusers ran with, in one process."""
    head = ("task", "size", "dtype", "allocator", OURS, "peer", "ratio")
    rows = [head, tuple("---" for _ in head)]
    for key, allocator in dict.fromkeys((one.key, one.allocator) for one in measurements if one.allocator != PLAIN):
        group = [one for one in measurements if (one.key, one.allocator) == (key, allocator)]
        ours, peer = (next((one for one in group if one.contender == side), None) for side in (OURS, PEER))
        if ours is not None and peer is not None:
            rows.append((*key, allocator, _number(ours), _number(peer), _ratio(peer, ours)))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def everything(measurements: Sequence[Measurement]) -> str:
    """A row per contender and allocator."""
    head = ("task", "size", "dtype", "contender", "median (minimum)", "rounds", "ratio", "difference")
    rows = [head, tuple("---" for _ in head)]
    ours = {(one.unit, one.key): one for one in measurements if one.contender == OURS and one.allocator == PLAIN}
    for one in measurements:
        ratio = _ratio(one, ours[one.unit, one.key]) if (one.unit, one.key) in ours else "-"
        rows.append((*one.key, one.variant, _number(one), str(one.rounds), ratio, _difference(one)))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _ratio(peer: Measurement, ours: Measurement) -> str:
    ratio = peer.ratio(ours)
    return f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.2f}"


def _against(ours: Measurement, first: Measurement | None, peers: list[Measurement]) -> tuple[str, ...]:
    if first is None:
        return "-", "-", "-", "-", _difference(ours)
    best = min(peers, key=lambda one: one.ratio(ours))
    shown = "the same" if best is first else f"{_number(best)} ({best.variant})"
    ratios = [_ratio(peer, ours) for peer in (first, best)]
    return _number(first), ratios[0], shown, ratios[1], f"{_difference(ours)} / {_difference(first)}"


def _number(one: Measurement) -> str:
    """Median and, in brackets, minimum."""
    if one.unit == "bytes":
        return f"{one.median / 1e6:.0f} MB"
    scale, unit, digits = (1.0, "s", 2) if one.median >= 1 else (1e3, "ms", 1 if one.median >= 0.01 else 3)
    return f"{one.median * scale:.{digits}f} ({one.minimum * scale:.{digits}f}) {unit}"


def _difference(one: Measurement) -> str:
    return "-" if one.difference is None else f"{one.difference:.1e}"
