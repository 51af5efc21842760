"""Time of calls: on a CPU by the clock, contenders in turn; on a GPU by CUDA events."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

GPU_SECONDS = 0.35  # of measuring, per contender
GPU_REPEATS = (3, 200)
SLOW_SECONDS = 4.0  # a GPU call that takes longer is measured once, after one small warm-up by its case
QUEUE_AHEAD_CYCLES = 4_000_000  # the device sleeps about 2 ms while the host queues launches: gaps do not count


@dataclass(frozen=True)
class Times:
    """Milliseconds of a call."""

    median: float
    minimum: float
    rounds: int

    @classmethod
    def of(cls, seconds: list[float]) -> Times:
        return cls(1e3 * statistics.median(seconds), 1e3 * min(seconds), len(seconds))


class Deadline:
    """Seconds that a run has left."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        return self.end - time.monotonic()


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

    Contenders go in turn, so that what disturbs the machine disturbs all of them alike: a round calls each once, in the
    order given and the next time in reverse. After a warm-up, which is not counted, as many rounds follow as fit into
    `seconds`, within `rounds`. Without warm-up: rounds[0] rounds.
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


def gpu_times(run: Callable[[], object]) -> Times:
    """Times of a call on the current CUDA device."""
    first = _events(run, 1)
    if first[0] > SLOW_SECONDS:
        return Times.of(first)
    run()
    once = _events(run, 1)[0]
    return Times.of(_events(run, int(min(max(GPU_SECONDS / max(once, 1e-6), GPU_REPEATS[0]), GPU_REPEATS[1]))))


def _events(run: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each call between two events."""
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda.synchronize()
    torch.cuda._sleep(QUEUE_AHEAD_CYCLES)
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1e3 for before, after in zip(events, events[1:], strict=False)]


def device_works() -> bool:
    """False after a kernel that left CUDA unusable in this process."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True
