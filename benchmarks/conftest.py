"""Settings of the kernel suite."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _needs_benchmark(request):
    """Without --benchmark-only or --benchmark-json a run of everything would spend minutes here."""
    if not request.config.getoption("benchmark_only") and not request.config.getoption("benchmark_json"):
        pytest.skip("the kernel suite runs with --benchmark-only")
