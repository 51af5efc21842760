"""The profile adds up what operations take, and their floors are arithmetic and bytes over the machine's rates."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

if importlib.util.find_spec("benchmarks.cpu.floors") is None:
    pytest.skip("needs the benchmarks beside the tests", allow_module_level=True)

from benchmarks.cpu import floors
from benchmarks.machine import Ceilings

ROOT = Path(__file__).resolve().parents[2]


def test_an_operation_inside_another_belongs_to_it():
    recorder = floors.Recorder()
    inner = recorder.wrap("inner", lambda x: x * 2, floors._pass)
    outer = recorder.wrap("outer", lambda x: inner(inner(x)), floors._pass)
    x = torch.ones(4, 8)
    inner(outer(x))
    assert {name: (entry.calls, entry.bytes) for name, entry in recorder.spent.items()} == {
        "outer": (1, 2 * x.nbytes),
        "inner": (1, 2 * x.nbytes),
    }


def test_work_of_a_product_and_of_attention():
    x, weight = torch.ones(2, 3, 8), torch.ones(5, 8)
    out = torch.nn.functional.linear(x, weight)
    assert floors._product(out, x, weight) == (2 * 6 * 5 * 8, out.nbytes + x.nbytes + weight.nbytes)
    q = torch.ones(1, 10, 2, 16)
    assert floors._attention(q, q, q, q)[0] == 4 * 2 * 10 * 10 * 16
    assert floors._attention(q, q, q, q, kv_len=torch.tensor([6]))[0] == 4 * 2 * 10 * 6 * 16
    ceilings = Ceilings(copy=10e-12, product={"float32": 100e-12})
    assert floors.floor(floors.Spent(1, 1.0, flops=500.0, bytes=20.0), ceilings, "float32") == pytest.approx(5.0)
    assert floors.floor(floors.Spent(1, 1.0, flops=100.0, bytes=20.0), ceilings, "float32") == pytest.approx(2.0)


def test_profile_of_the_smallest_models(tmp_path):
    path = os.pathsep.join((str(ROOT), str(ROOT / "python"), os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, "-m", "benchmarks.cpu.floors", "--quick", "--output", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": path})
    text = next(tmp_path.glob("*-profile.md")).read_text()
    assert text.count("\n## ") == 6
    for section in text.split("\n## ")[1:]:
        total = float(re.search(r": ([\d.]+) ms", section)[1])
        parts = [float(cells.split("|")[3]) for cells in section.splitlines()[4:] if cells.startswith("|")]
        assert sum(parts) == pytest.approx(total, abs=0.2)
    assert re.search(r"^\| rope_attention \| \d+ \|", text, re.M) and "| linear |" in text
