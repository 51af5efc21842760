"""The one format of results, on every device: rows, the parts of a run they belong to, and their files.

A row is a race: this package and its peers at one operation or model, one shape and dtype, on the same inputs in the
same run. A planner reads op, shape, dtype, device, ms, and rate in `unit` (`rows_of`).
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.timing import Times

RESULTS = Path(__file__).with_name("results")
FORMAT = 1
OURS = "hunyuan-ext"
PEER = "diffusers"
ABSENT = "not installed"  # the note of a peer that this machine does not have
TFLOPS, TBS = "TFLOP/s", "TB/s"


@dataclass
class Peer:
    """Another way to the same result. ms: median; error: see Row; note: why there is no number."""

    ms: float | None = None
    ms_min: float | None = None
    rounds: int | None = None
    error: float | None = None
    memory_gb: float | None = None
    note: str = ""


@dataclass
class Row:
    """One race: what is ours, then the peers by name.

    error: from the exact result, relative (norm or root mean square); of operations on a CPU the largest absolute one.
    ceiling: share of the measured copy bandwidth (unit TB/s) or product rate (TFLOP/s). memory_gb: peak; a row without
    ms is about memory alone. gate, goal: in `unit`; peer_gate: times the best peer's speed. settings: what the process
    ran with, such as another allocator.
    """

    op: str
    shape: str
    dtype: str
    device: str = "cpu"
    ms: float | None = None
    ms_min: float | None = None
    rounds: int | None = None
    rate: float | None = None
    unit: str = ""
    ceiling: float | None = None
    error: float | None = None
    memory_gb: float | None = None
    gate: float | None = None
    goal: float | None = None
    peer_gate: float | None = None
    settings: str = ""
    note: str = ""
    peers: dict[str, Peer] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, bool]:
        """The same for races of the same work; those about memory are apart."""
        return self.op, self.shape, self.dtype, self.ms is None and self.memory_gb is not None

    def take(self, peer: Peer) -> None:
        """Fills in what is ours."""
        self.ms, self.ms_min, self.rounds = peer.ms, peer.ms_min, peer.rounds
        self.error, self.memory_gb, self.note = peer.error, peer.memory_gb, peer.note

    def ratio(self, name: str) -> float | None:
        """Speed relative to a peer; without times, memory of the peer relative to ours."""
        peer = self.peers[name]
        ours, theirs = (self.ms, peer.ms) if self.ms is not None else (self.memory_gb, peer.memory_gb)
        return theirs / ours if theirs and ours else None

    def best_ratio(self) -> float | None:
        """The ratio to the best peer."""
        ratios = [ratio for name in self.peers if is_peer(name) and (ratio := self.ratio(name)) is not None]
        return min(ratios, default=None)


Report = Callable[[Row], None]
Taken = Row | Peer


def is_peer(name: str) -> bool:
    """True for someone else's way of doing the same work."""
    return not name.startswith(OURS) and "less work" not in name


@dataclass(frozen=True)
class Entry:
    """A contender of a group of races of the same work. ratio: its time, or memory, over this package's."""

    name: str
    taken: Taken
    ratio: float
    settings: str = ""

    @property
    def variant(self) -> str:
        return f"{self.name}, {self.settings}" if self.settings else self.name


def grouped(rows: Iterable[Row]) -> dict[tuple, list[Row]]:
    """Races of the same work together, in the order they came."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(row)
    return groups


def base_of(group: Sequence[Row]) -> Row | None:
    """This package's number: that of the first race with plain settings."""
    return next((row for row in group if not row.settings and amount(row) is not None), None)


def entries(group: Sequence[Row]) -> Iterator[Entry]:
    """Everyone beside this package, with the ratio of the race that both ran in; where the process had other settings,
    to this package's number without them.
    """
    base = base_of(group)
    for row in group:
        for name, peer in row.peers.items():
            ours, theirs = amount(base if row.settings and base else row), amount(peer)
            if ours and theirs:
                yield Entry(name, peer, theirs / ours, row.settings)


def amount(taken: Taken) -> float | None:
    return taken.ms if taken.ms is not None else taken.memory_gb


def peer_of(times: Times, error: float | None = None) -> Peer:
    return Peer(times.median, times.minimum, times.rounds, error)


def raced(op: str, shape: str, dtype: str, times: Mapping[str, Times], errors: Mapping[str, float | None]) -> Row:
    """The row of a race on the CPU."""
    row = Row(op, shape, dtype)
    for name, taken in times.items():
        if name == OURS:
            row.take(peer_of(taken, errors.get(name)))
        else:
            row.peers[name] = peer_of(taken, errors.get(name))
    return row


def failure(error: Exception) -> Peer:
    text = str(error).strip().splitlines()
    return Peer(note=f"failed: {type(error).__name__}: {text[0][:200] if text else ''}")


def nobody(row: Row) -> None:
    """Takes no reports."""


def relative_difference(output: Any, expected: Any) -> float:
    """Root mean square of output - expected over that of expected, of two tensors."""
    return float((output.double() - expected.double()).norm() / expected.double().norm())


def row_of(values: dict[str, Any]) -> Row:
    """A row from its JSON object."""
    known = {name: value for name, value in values.items() if name in Row.__dataclass_fields__ and name != "peers"}
    return Row(**known, peers={name: Peer(**peer) for name, peer in values.get("peers", {}).items()})


def as_object(row: Row | Peer) -> dict[str, Any]:
    """The JSON object of a row, without what is unknown."""
    values = {name: value for name, value in asdict(row).items() if value not in (None, "")}
    if isinstance(row, Row):
        values["peers"] = {name: as_object(peer) for name, peer in row.peers.items()}
    return values


def as_part(rows: Iterable[Row], **about: Any) -> dict[str, Any]:
    """A part of a run: date, commit and whatever else is known of it, and its rows."""
    return {**about, "rows": [as_object(row) for row in rows]}


def rows_of(results: Mapping[str, Any]) -> Iterator[Row]:
    """All rows of a file."""
    for part in results["parts"].values():
        yield from map(row_of, part.get("rows", ()))


def load_results(path: Path) -> dict[str, Any]:
    """{"format": 1, "machine": ..., "parts": {name: {..., "rows": [...]}}}; empty where there is no such file."""
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return stored if stored.get("format") == FORMAT else {"format": FORMAT, "machine": {}, "parts": {}}


def save_results(path: Path, results: Mapping[str, Any]) -> None:
    """`path`, JSON, and beside it the same rows as CSV; whole files or none."""
    write(path, json.dumps(results, indent=1) + "\n")
    write(path.with_suffix(".csv"), as_csv(rows_of(results)))


COLUMNS = ("ms", "ms_min", "rounds", "rate", "unit", "ceiling", "memory_gb", "error", "settings", "note")


def as_csv(rows: Iterable[Row]) -> str:
    """A line for each row and each of its peers."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("op", "shape", "dtype", "device", "who", "ratio", *COLUMNS))
    for row in rows:
        key = row.op, row.shape, row.dtype, row.device
        for name, entry in ((OURS, row), *row.peers.items()):
            ratio = "" if entry is row else row.ratio(name)
            table.writerow((*key, name, ratio, *(getattr(entry, column, None) for column in COLUMNS)))
    return text.getvalue()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(path.name + ".part")
    staged.write_text(text, encoding="utf-8")
    os.replace(staged, path)
