"""One operation, one size, everyone who computes it: `pytest benchmarks --benchmark-only`.

A group is a size; extra_info holds the largest absolute error against float64 (of a sample of the output).
"""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks.cases import Case, cases, make_inputs, max_error
from benchmarks.contenders import Contender, contenders

SECONDS = 1.5  # of measuring, per contender and size
ROUNDS = (3, 50)


def _parameters() -> list:
    return [
        pytest.param(case, dtype, contender, id=f"{case.op}-{case.name}-{dtype}-{contender.name}".replace(" ", "_"))
        for case, dtype in cases("cpu")
        for contender in contenders(case.op)
    ]


@pytest.mark.parametrize(("case", "dtype", "contender"), _parameters())
def test_kernel(benchmark, case: Case, dtype: str, contender: Contender):
    if not contender.installed:
        pytest.skip(f"{contender.needs} is not installed")
    benchmark.group = f"{case.op} {case.name} {dtype}"
    inputs = make_inputs(case, dtype)
    with torch.no_grad():
        run = contender.prepare(inputs)
        error = max_error(case, inputs, run())
        benchmark.extra_info.update(
            op=case.op, size=case.name, dtype=dtype, contender=contender.name, max_abs_error=error
        )
        benchmark.pedantic(run, rounds=rounds_for(run), warmup_rounds=1)


def rounds_for(run) -> int:
    """As many calls as fit into SECONDS, within ROUNDS."""
    started = time.perf_counter()
    run()
    return int(min(max(SECONDS / (time.perf_counter() - started), ROUNDS[0]), ROUNDS[1]))
