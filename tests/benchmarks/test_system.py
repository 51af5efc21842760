"""The system benchmarks run at their smallest size and tell what they found; how fast anything is, is not tested."""

from __future__ import annotations

import importlib.util
import json
import time

import pytest
import torch

if importlib.util.find_spec("benchmarks.system") is None or importlib.util.find_spec("diffusers") is None:
    pytest.skip("needs the benchmarks beside the tests, and diffusers", allow_module_level=True)

import hunyuan_ext
from benchmarks import machine, processes, results, system, tasks
from benchmarks.kernel_results import kernel_section
from benchmarks.minis import QUICK
from benchmarks.results import OURS, PEER, Measurement
from benchmarks.timing import Times, race


def by_side(measurements):
    return {(one.task, one.size, one.dtype, one.contender): one for one in measurements}


@pytest.mark.parametrize(
    ("task", "options"),
    [("blocks", {}), ("dit", {}), ("vae_decode", {}), ("pipeline", {"dtypes": ("float32",)})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_both_sides_compute_the_same(task, options):
    """Equal weights and inputs: float32 differs by rounding, bfloat16 by its eight bits."""
    found = list(getattr(tasks, task)(QUICK, **options))
    assert {one.contender for one in found} >= {OURS, PEER}
    for one in found:
        assert one.median >= one.minimum > 0
        if one.contender == OURS:
            assert one.difference is not None and one.difference < (2e-4 if one.dtype == "float32" else 5e-2), one


def test_framewise_decoding_is_seen_to_differ():
    scale = QUICK.__class__(**{**vars(QUICK), "small": QUICK.small.__class__(33, 16, 16, 1)})
    found = by_side(tasks.vae_decode(scale, dtypes=("float32",)))
    errors = {side: one.difference for (_, _, _, side), one in found.items()}
    assert errors[tasks.FRAMEWISE] > 100 * errors[OURS]


def test_cost_of_calls():
    assert {one.contender for one in tasks.calls(QUICK)} == {OURS, PEER}


def test_allocators_run_the_whole_comparison(monkeypatch):
    monkeypatch.setattr(processes, "allocators", lambda: {"huge pages": {"THP_MEM_ALLOC_ENABLE": "1"}})
    found = list(processes.with_allocators(("blocks",), "quick"))
    assert {(one.contender, one.allocator) for one in found} == {(OURS, "huge pages"), (PEER, "huge pages")}


def test_peak_memory_counts_the_weights():
    (one,) = processes.memory("quick", [("pipeline", "small", OURS)])
    assert one.unit == "bytes" and 1e6 < one.median < 4e9


def test_race_alternates_and_leaves_warm_up_out():
    calls = []
    times, values = race(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b") or 7}, seconds=0, rounds=(3, 9)
    )
    assert calls[-6:] == list("abbaab") and len(calls) in (8, 10)
    assert times["a"].rounds == 3 and values == {"a": None, "b": 7}


def test_table_compares_with_the_first_and_with_the_best_peer():
    def one(contender, seconds, **more):
        return Measurement("decode", "17 frames", "bfloat16", contender, "s", seconds, seconds / 2, 3, **more)

    table = results.comparison(
        [
            one(OURS, 1.0, difference=1e-3),
            one(PEER, 3.0),
            one(PEER, 2.0, allocator="tcmalloc"),
            one("x, less work", 0.1),
        ]
    )
    row = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
    assert row[3:] == [
        "1.00 (0.50) s", "3.00 (1.50) s", "3.00", "2.00 (1.00) s (diffusers, tcmalloc)", "2.00", "1.0e-03 / -",
    ]  # fmt: skip


def test_results_of_other_parts_stay(tmp_path, monkeypatch, capsys):
    facts = {**hunyuan_ext.capabilities(), "build": {"native": True}}
    monkeypatch.setattr(hunyuan_ext, "capabilities", lambda: facts)
    made = Measurement.timed("start", "-", "-", OURS, Times(1.0, 0.5, 3), 1e-6)
    monkeypatch.setattr(system, "PARTS", {name: lambda args: iter([made]) for name in ("cold", "imports")})
    for name in ("cold", "imports"):
        assert system.main(["--quick", "--only", name, "--output", str(tmp_path)]) == 0
    stored = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert list(stored["sections"]) == ["cold", "imports"]
    assert [results.measurements_of(section) for section in stored["sections"].values()] == [[made], [made]]
    printed, table = capsys.readouterr().out, next(tmp_path.glob("*.md")).read_text()
    assert machine.cpu_name() in table and printed.strip().endswith(table.strip())


def test_report_of_the_kernel_suite_is_read(tmp_path):
    info = {"op": "norm", "size": "8x8", "dtype": "float32", "contender": OURS, "max_abs_error": 1e-7}
    stats = {"median": 2.0, "min": 1.0, "rounds": 3}
    section = {"date": "2026-01-01", "commit": "c0ffee", "load_before": 0.1, "load_after": 1.9, "others": 0.02}
    path = tmp_path / "kernels.json"
    assert kernel_section(path) is None
    path.write_text(json.dumps({"section": section, "benchmarks": [{"extra_info": info, "stats": stats}]}))
    table = results.tables({"machine": {}, "sections": {}}, kernel_section(path))
    assert "| operations | 2026-01-01 | c0ffee | 0.1, 1.9 | 2% |" in table
    assert table.count("| norm | 8x8 | float32 |") == 2 and "2.00 (1.00) s" in table


def test_without_kernels_nothing_is_measured(monkeypatch, tmp_path, capsys):
    build = {"native": False, "reason": "no compiler"}
    monkeypatch.setattr(hunyuan_ext, "capabilities", lambda: {"build": build})
    assert system.main(["--output", str(tmp_path)]) == 1
    assert "no compiler" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_others_are_told_from_this_process():
    others, until = machine.Others(), time.process_time() + 0.1
    while time.process_time() < until:
        pass
    share = others.share()
    assert share is None or 0 <= share <= 1
    if share is not None:
        assert machine._own() - others.own > 0.05


def test_relative_difference():
    assert results.relative_difference(torch.tensor([3.0, -3.5]), torch.tensor([3.0, -4.0])) == pytest.approx(0.1)
