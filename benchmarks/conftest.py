"""Settings of the kernel suite."""

from __future__ import annotations

import pytest

from benchmarks.machine import machine_facts


@pytest.fixture(autouse=True)
def _needs_benchmark(request):
    """Without --benchmark-only or --benchmark-json a run of everything would spend minutes here."""
    if not request.config.getoption("benchmark_only") and not request.config.getoption("benchmark_json"):
        pytest.skip("the kernel suite runs with --benchmark-only")


def pytest_benchmark_update_machine_info(config, machine_info):
    """The report says what machine it was, but not its name in someone's network."""
    machine_info.clear()
    machine_info.update(machine_facts())
