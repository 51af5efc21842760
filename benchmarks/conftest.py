"""Settings of the kernel suite."""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks.machine import Others, load, machine_facts, section_facts

WARM_UP = 2.0  # seconds
LOAD = {}
OTHERS = Others()


@pytest.fixture(autouse=True)
def _needs_benchmark(request):
    """Without --benchmark-only or --benchmark-json a run of everything would spend minutes here."""
    if not request.config.getoption("benchmark_only") and not request.config.getoption("benchmark_json"):
        pytest.skip("the kernel suite runs with --benchmark-only")


@pytest.fixture(scope="session", autouse=True)
def _warm():
    """The first case must not pay for a processor that wakes up and for threads that start."""
    LOAD["load_before"] = load()
    x, until = torch.randn(512, 512), time.perf_counter() + WARM_UP
    while time.perf_counter() < until:
        x = torch.nn.functional.normalize(x @ x)


def pytest_benchmark_update_machine_info(config, machine_info):
    """The report says what machine it was, but not its name in someone's network."""
    machine_info.clear()
    machine_info.update(machine_facts())


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Statistics only: the single times would be most of the file."""
    output_json["section"] = {**section_facts(), **LOAD, "load_after": load(), "others": OTHERS.share()}
    for one in output_json["benchmarks"]:
        one["stats"].pop("data", None)
