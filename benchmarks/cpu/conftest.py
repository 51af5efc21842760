"""Settings of the kernel suite."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

WARM_UP = 2.0  # seconds


@pytest.fixture(autouse=True)
def _needs_benchmark(request):
    """Without --benchmark-only or --benchmark-json a run of everything would spend minutes here."""
    if not request.config.getoption("benchmark_only") and not request.config.getoption("benchmark_json"):
        pytest.skip("the kernel suite runs with --benchmark-only")


class Progress:
    """A line per size, past pytest's capture: what is done and how long the rest takes at this rate."""

    def __init__(self, write: Callable[[str], None], groups: int) -> None:
        self.write, self.started, self.groups, self.done = write, time.perf_counter(), groups, set()

    def finished(self, group: str, seconds: float) -> None:
        if group not in self.done:
            self.done.add(group)
            left = (self.groups - len(self.done)) * (time.perf_counter() - self.started) / len(self.done)
            self.write(f"[{len(self.done)}/{self.groups}] {group}: {seconds:.1f} s; about {left:.0f} s left")


@pytest.fixture(scope="session")
def progress(request):
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    groups = {(entry["case"], entry["dtype"]) for entry in parameters if "contender" in entry}
    plugins = request.config.pluginmanager
    reporter, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(line)

    return Progress(write, len(groups))


@pytest.fixture(scope="session", autouse=True)
def _warm():
    """The first case must not pay for a processor that wakes up and for threads that start."""
    x, until = torch.randn(512, 512), time.perf_counter() + WARM_UP
    while time.perf_counter() < until:
        x = torch.nn.functional.normalize(x @ x)


def pytest_benchmark_update_machine_info(config, machine_info):
    """The report does not say whose machine it was."""
    machine_info.clear()


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Statistics only: the single times would be most of the file; the parameters are in extra_info."""
    for entry in output_json["benchmarks"]:
        entry["stats"].pop("data", None)
        entry.pop("params", None)
