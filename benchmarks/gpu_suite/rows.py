"""One measured case: its line, and the JSON and CSV files of a run."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OURS = "hunyuan-ext"
ABSENT = "not installed"  # the note of a peer that this machine does not have


@dataclass
class Peer:
    """Another way to the same result; `note` says why there is no time."""

    us: float | None = None
    error: float | None = None
    memory_gb: float | None = None
    note: str = ""


def failure(error: Exception) -> Peer:
    text = str(error).strip().splitlines()
    return Peer(note=f"failed: {type(error).__name__}: {text[0][:200] if text else ''}")


@dataclass
class Row:
    """What was measured of a case. error: relative (Frobenius) against float64. gate, goal: in `unit`, or times a peer.

    ceiling: share of the measured copy bandwidth (unit TB/s) or matrix rate (TFLOP/s).
    """

    op: str
    shape: str
    dtype: str
    us: float | None = None
    rate: float | None = None
    unit: str = ""
    ceiling: float | None = None
    error: float | None = None
    memory_gb: float | None = None
    gate: float | None = None
    goal: float | None = None
    best_peer_gate: float | None = None
    note: str = ""
    peers: dict[str, Peer] = field(default_factory=dict)

    def ratio(self, peer: str) -> float | None:
        """How many times as fast as a peer."""
        theirs = self.peers[peer].us
        return theirs / self.us if theirs and self.us else None

    def best_ratio(self) -> float | None:
        """The same, of the fastest peer."""
        ratios = [ratio for ratio in map(self.ratio, self.peers) if ratio is not None]
        return min(ratios, default=None)

    def verdict(self) -> str:
        """ "goal", "gate", "below gate", or nothing where there is no target or no time."""
        met = []
        for value, gate, goal in (
            (self.rate, self.gate, self.goal),
            (self.best_ratio(), self.best_peer_gate, self.best_peer_gate),
        ):
            if value is not None and gate is not None:
                met.append("below gate" if value < gate else "goal" if goal is not None and value >= goal else "gate")
        order = ("below gate", "gate", "goal")
        return min(met, key=order.index, default="")

    def line(self) -> str:
        head = f"{self.op:<20} {self.shape:<34} {self.dtype:<9}"
        if self.us is None:
            return f"{head} {self.note}" + self._peer_notes()
        parts = [f"{self.us:>12.1f} us"]
        if self.rate is not None:
            share = f"{self.ceiling:>4.0%}" if self.ceiling is not None else "   -"
            parts.append(f"{self.rate:>7.{0 if self.rate >= 100 else 2}f} {self.unit:<8} {share} of ceiling")
        if self.memory_gb is not None:
            parts.append(f"peak {self.memory_gb:.1f} GB")
        for name in self.peers:
            ratio = self.ratio(name)
            parts.append(f"x{ratio:.2f} {name}" + self._details(self.peers[name]) if ratio is not None else "")
        if self.error is not None:
            parts.append(f"error {self.error:.1e}")
        parts += [f"[{self.verdict()}]" if self.verdict() else "", self.note]
        return f"{head} " + " | ".join(part for part in parts if part) + self._peer_notes()

    @staticmethod
    def _details(peer: Peer) -> str:
        facts = [f"error {peer.error:.1e}"] if peer.error is not None else []
        facts += [f"{peer.memory_gb:.1f} GB"] if peer.memory_gb is not None else []
        return f" ({', '.join(facts)})" if facts else ""

    def _peer_notes(self) -> str:
        notes = [f"{name}: {peer.note}" for name, peer in self.peers.items() if peer.note and peer.note != ABSENT]
        return "".join(f"\n    {note}" for note in notes)


Report = Callable[[Row], None]


def nobody(row: Row) -> None:
    """Takes no reports."""


def write_results(path: Path, machine: dict[str, Any], stages: dict[str, Any], rows: Iterable[Row]) -> None:
    """`path` (JSON: everything) and beside it the same table as CSV, a line a case and peer; whole files or none."""
    rows = list(rows)
    facts = {"machine": machine, "stages": stages, "rows": [asdict(row) | {"verdict": row.verdict()} for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
    with partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            ("op", "shape", "dtype", "who", "us_p50", "rate", "unit", "of_ceiling", "our_speedup", "error", "note")
        )
        for row in rows:
            key = row.op, row.shape, row.dtype
            table.writerow((*key, OURS, row.us, row.rate, row.unit, row.ceiling, "", row.error, row.note))
            for name, peer in row.peers.items():
                table.writerow((*key, name, peer.us, "", "", "", row.ratio(name), peer.error, peer.note))
    os.replace(partial, path.with_suffix(".csv"))
