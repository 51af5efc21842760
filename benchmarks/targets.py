"""Targets of the project on a CPU and on a GPU, and whether the measured numbers meet them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from benchmarks.results import PEER, Row, amount, base_of, entries, grouped, is_peer

BEST, FLOOR = "best peer variant", "floor"
Fits = Callable[[str], bool]


def _any(size: str) -> bool:
    return True


def _is(*sizes: str) -> Fits:
    return lambda size: size in sizes


def _number_in(size: str, position: int) -> int:
    """A number of a size such as "576x512x2048" or "H4 S1024"."""
    words = size.replace("x", " ").replace("H", " ").replace("S", " ").replace(",", " ").split()
    return int(words[position])


@dataclass(frozen=True)
class Target:
    """Factor by which this package must need less than a peer on a CPU. dtype: "" for any.

    against: the start of a contender's name, BEST, or FLOOR; "" for a limit on this package's own number (`at_most`,
    milliseconds or, with memory, GB).
    """

    task: str
    against: str
    ratio: float = 0.0
    dtype: str = "bfloat16"
    sizes: Fits = _any
    memory: bool = False
    at_most: float = 0.0


@dataclass(frozen=True)
class Rate:
    """Rate that a case on a GPU must reach (gate) and should reach (goal), in the unit of its work; peer: times the
    best peer's speed.
    """

    gate: float | None = None
    goal: float | None = None
    peer: float | None = None


_LARGE, _SMALL = _is("2560 tokens"), _is("576 tokens")
_CLIP, _LONG = _is("17x128x128"), _is("33x256x256")
_DIFFUSERS_ATTENTION = "diffusers: RMSNorm"
TARGETS = (
    Target("transformer forward", PEER, 1.9, sizes=_LARGE),
    Target("transformer forward", BEST, 1.4, sizes=_LARGE),
    Target("transformer forward", PEER, 1.7, sizes=_SMALL),
    Target("transformer forward", BEST, 1.1, sizes=_SMALL),
    Target("VAE decode", PEER, 1.5, sizes=_CLIP),
    Target("VAE decode", BEST, 1.3, sizes=_CLIP),
    Target("VAE decode", f"{PEER}, framewise", 1.8, sizes=_CLIP),
    Target("pipeline", PEER, 2.0),
    Target("pipeline", BEST, 1.4, sizes=lambda size: size.startswith("17x128x128")),
    Target("VAE decode", PEER, 1 / 0.6, memory=True),
    Target("pipeline", PEER, 1 / 0.6, memory=True),
    Target("cold start", PEER, 3.0, dtype=""),
    Target("import of the pipeline", "", at_most=300.0, dtype=""),
    Target("cost of calls", "", at_most=5.0, dtype=""),
    Target("VAE decode in 1 GB", "", at_most=1.0, dtype="", memory=True),
    Target("rope_attention", _DIFFUSERS_ATTENTION, 2.5, sizes=lambda size: _number_in(size, 1) >= 1024),
    Target(
        "rope_attention", _DIFFUSERS_ATTENTION, 1.3, dtype="float32", sizes=lambda size: _number_in(size, 1) >= 1024
    ),
    Target("linear_gelu", "torch: linear", 1.0, dtype=""),
    Target("fp8_linear", "torch: bfloat16 linear", 0.9, sizes=lambda size: _number_in(size, 0) >= 256),
    Target("fp8_linear", "weight widened", 5.0, sizes=lambda size: _number_in(size, 0) == 1),
    Target("int8_linear", "torch: bfloat16 linear", 1.4, sizes=lambda size: _number_in(size, 0) >= 512),
    Target("layer_norm_modulate", FLOOR, 1 / 1.2, dtype=""),
    Target("gate_residual", FLOOR, 1 / 1.2, dtype=""),
)


@dataclass(frozen=True)
class Verdict:
    """One target at one size. measured: None where there is no number of one of the two sides."""

    target: Target
    size: str
    dtype: str
    measured: float | None

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured <= self.target.at_most if self.target.at_most else self.measured >= self.target.ratio


def judge(rows: Iterable[Row]) -> Iterator[Verdict]:
    """Every target at every size that was measured; once, without a size, where none was."""
    groups = {key: group for key, group in grouped(rows).items() if base_of(group) is not None}
    for target in TARGETS:
        keys = [
            key
            for key in groups
            if (key[0], key[3]) == (target.task, target.memory)
            and (key[2] == target.dtype or not target.dtype)
            and target.sizes(key[1])
        ]
        for key in keys:
            yield Verdict(target, key[1], key[2], _measured(target, groups[key]))
        if not keys:
            yield Verdict(target, "-", target.dtype or "-", None)


def _measured(target: Target, group: list[Row]) -> float | None:
    base, others = base_of(group), list(entries(group))
    if target.at_most:
        return base and amount(base)
    if target.against == BEST:
        others = [entry for entry in others if is_peer(entry.name)]
        if len({entry.variant for entry in others if "framewise" not in entry.variant}) < 2:
            return None  # only the plain one was measured: it is not the best of anything
    elif target.against == FLOOR:
        others = [entry for entry in others if "the floor" in entry.name]
    else:
        exact = [entry for entry in others if entry.name == target.against]
        others = exact or [entry for entry in others if entry.name.startswith(target.against)]
        others = [entry for entry in others if not entry.settings]
    return min((entry.ratio for entry in others), default=None)


def table_of(verdicts: Iterable[Verdict]) -> str:
    """A row per target and size in Markdown."""
    head = ("what", "size", "dtype", "against", "target", "measured", "")
    rows = [head, tuple("---" for _ in head)]
    for verdict in verdicts:
        against = verdict.target.against or "-"
        shown = "not measured" if verdict.measured is None else _shown(verdict, verdict.measured)
        answer = {None: "", True: "met", False: "NOT MET"}[verdict.met]
        wanted = (
            f"at most {_amount(verdict.target, verdict.target.at_most)}"
            if verdict.target.at_most
            else _wanted(verdict.target)
        )
        task = verdict.target.task + (", peak memory" if verdict.target.memory else "")
        rows.append((task, verdict.size, verdict.dtype, against, wanted, shown, answer))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _wanted(target: Target) -> str:
    """Text of a target; for memory and floors it is the allowed share of the other's."""
    if target.memory or target.against == FLOOR:
        return f"at most {1 / target.ratio:.2g} of it"
    return f"{target.ratio:.2g}x"


def _shown(verdict: Verdict, measured: float) -> str:
    if verdict.target.at_most:
        return _amount(verdict.target, measured)
    if verdict.target.memory or verdict.target.against == FLOOR:
        return f"{1 / measured:.2f} of it"
    return f"{measured:.2f}x"


def _amount(target: Target, number: float) -> str:
    return f"{1e3 * number:.0f} MB" if target.memory else f"{number:.1f} ms"


def verdict(row: Row) -> str:
    """ "goal", "gate", "below gate", or nothing where a row has no target or no time."""
    met = []
    for value, gate, goal in (
        (row.rate, row.gate, row.goal),
        (row.best_ratio(), row.peer_gate, row.peer_gate),
    ):
        if value is not None and gate is not None:
            met.append("below gate" if value < gate else "goal" if goal is not None and value >= goal else "gate")
    order = ("below gate", "gate", "goal")
    return min(met, key=order.index, default="")
