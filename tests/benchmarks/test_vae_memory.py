"""Exact mode's resident memory stays within its budget where plain mode's does not (benchmarks/cpu/vae_memory.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak resident memory is read from /proc")
def test_exact_decode_stays_within_its_budget():
    budget = 80
    command = [sys.executable, str(ROOT / "benchmarks" / "cpu" / "vae_memory.py"), "--frames", "129", "--size", "64"]
    command += ["--budget", str(budget * 10**6), "--plain-frames", "129"]
    path = os.pathsep.join((str(ROOT), str(ROOT / "python"), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stdout + done.stderr  # it compares the budget with what exact mode took
    rows = re.findall(r"^\| (\w+) \| 129 \| (\d+) MB \| (\d+) MB", done.stdout, re.MULTILINE)
    peaks = {mode: int(peak) - int(result) for mode, peak, result in rows}
    assert peaks["exact"] <= budget < peaks["plain"] / 1.5
    difference = re.search(r"difference of exact and plain: (\S+) of (\S+)", done.stdout)
    assert difference and float(difference[1]) < 1e-4 * float(difference[2])
