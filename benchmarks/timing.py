"""Contenders in turn, so that what disturbs the machine disturbs all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Times:
    """Seconds of a call."""

    median: float
    minimum: float
    rounds: int

    @classmethod
    def of(cls, seconds: list[float]) -> Times:
        return cls(statistics.median(seconds), min(seconds), len(seconds))


def race(runs: Mapping[str, Callable[[], Any]], **options: Any) -> tuple[dict[str, Times], dict[str, Any]]:
    """Times of each contender, and what its last call returned. Options are those of `alternate`."""
    taken, results = alternate(runs, **options)
    return {name: Times.of(seconds) for name, seconds in taken.items()}, results


def alternate(
    runs: Mapping[str, Callable[[], Any]],
    *,
    seconds: float = 10.0,
    rounds: tuple[int, int] = (3, 25),
    warm_up: bool = True,
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of every call of each contender, and what its last call returned.

    A round calls each once, in the order given and the next time in reverse. After a warm-up, which is not counted, as
    many rounds follow as fit into `seconds`, within `rounds`. Without warm-up: rounds[0] rounds.
    """
    results: dict[str, Any] = {}
    taken: dict[str, list[float]] = {name: [] for name in runs}

    def one_round(number: int) -> float:
        started = time.perf_counter()
        for name in list(runs) if number % 2 == 0 else reversed(list(runs)):
            results.pop(name, None)  # its memory is not held while the next call runs
            begin = time.perf_counter()
            result = runs[name]()
            taken[name].append(time.perf_counter() - begin)
            results[name] = result
        return time.perf_counter() - started

    count = rounds[0]
    if warm_up:
        estimate = one_round(0)
        if estimate < seconds:  # the first call also builds caches: of short ones it says little
            estimate = one_round(0)
        count = int(min(max(seconds / max(estimate, 1e-9), rounds[0]), rounds[1]))
        for times in taken.values():
            times.clear()
    for number in range(count):
        one_round(number)
    return taken, results
