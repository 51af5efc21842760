"""One operation, one size, everyone who computes it: `pytest benchmarks --benchmark-only`.

A group is a size. Its contenders run in turn, on the same inputs, when the first of its tests is reached; each test
reports the times of its own. extra_info holds the largest absolute error against float64 (of a sample of the output).
"""

from __future__ import annotations

import functools
import time

import pytest
import torch

from benchmarks.cases import Case, cases, make_inputs, max_errors, work
from benchmarks.contenders import Contender, contenders
from benchmarks.timing import alternate

SECONDS = 1.5  # of measuring, per size and dtype
ROUNDS = (3, 50)


class Replay:
    """A clock for pytest-benchmark: `advance` takes as long by it as the recorded call took."""

    def __init__(self) -> None:
        self.now, self.recorded = 0.0, iter([])

    def load(self, seconds: list[float]) -> None:
        self.now, self.recorded = 0.0, iter(seconds)

    def advance(self) -> None:
        self.now += next(self.recorded)

    def __call__(self) -> float:
        return self.now


CLOCK = Replay()


@functools.cache
def measured(case: Case, dtype: str) -> tuple[dict[str, list[float]], dict[str, float], float]:
    """Seconds of every call and the error of each contender that is installed, and what all of it took."""
    started, inputs = time.perf_counter(), make_inputs(case, dtype)
    with torch.no_grad():
        runs = {
            contender.name: contender.prepare(inputs)
            for contender in contenders(case.op, floor=True)
            if contender.installed
        }
        taken, outputs = alternate(runs, seconds=SECONDS, rounds=ROUNDS)
    errors = max_errors(case, inputs, outputs)
    return taken, errors, time.perf_counter() - started


def _parameters() -> list:
    return [
        pytest.param(case, dtype, contender, id=f"{case.op}-{case.name}-{dtype}-{contender.name}".replace(" ", "_"))
        for case, dtype in cases("cpu")
        for contender in contenders(case.op, floor=True)
    ]


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize(("case", "dtype", "contender"), _parameters())
def test_kernel(benchmark, progress, case: Case, dtype: str, contender: Contender):
    if not contender.installed:
        pytest.skip(f"{contender.needs} is not installed")
    benchmark.group = f"{case.op} {case.name} {dtype}"
    taken, errors, seconds = measured(case, dtype)
    progress.finished(benchmark.group, seconds)
    seconds_of_calls = taken[contender.name]
    amount, unit = work(case.op, dtype, case.sizes) or (None, "")
    benchmark.extra_info.update(
        op=case.op, size=case.name, dtype=dtype, contender=contender.name, max_abs_error=errors[contender.name],
        work=amount, unit=unit,
    )  # fmt: skip
    CLOCK.load(seconds_of_calls)
    benchmark.pedantic(CLOCK.advance, rounds=len(seconds_of_calls))
