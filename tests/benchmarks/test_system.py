"""The system benchmarks run at their smallest size and tell what they found; how fast anything is, is not tested."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import time

import pytest
import torch

if importlib.util.find_spec("benchmarks.system") is None or importlib.util.find_spec("diffusers") is None:
    pytest.skip("needs the benchmarks beside the tests, and diffusers", allow_module_level=True)

import hunyuan_ext
from benchmarks import __main__ as bench
from benchmarks import compiled, machine, processes, report, results, system, targets, tasks
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
    found = list(processes.with_allocators(("vae",), "quick"))
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


def test_a_ratio_is_of_the_race_that_both_ran_in():
    def one(contender, seconds, **more):
        return Measurement("decode", "17 frames", "bfloat16", contender, "s", seconds, seconds, 3, **more)

    ours = one(OURS, 1.0)
    early, late = one(PEER, 3.0, beside=1.0), one("diffusers, torch.compile", 4.0, beside=2.0)
    assert early.ratio(ours) == 3.0 and late.ratio(ours) == 2.0
    row = results.comparison([ours, early, late]).splitlines()[2]
    assert "| 3.00 | 4.00 (4.00) s (diffusers, torch.compile) | 2.00 |" in row
    other_memory = one(PEER, 4.0, beside=2.0, allocator="tcmalloc")
    assert other_memory.ratio(ours) == 4.0  # this package's number is that of the C library's allocator


def test_results_of_other_parts_stay(tmp_path, monkeypatch, capsys):
    facts = {**hunyuan_ext.capabilities(), "build": {"native": True}}
    monkeypatch.setattr(hunyuan_ext, "capabilities", lambda: facts)
    made = Measurement.timed("start", "-", "-", OURS, Times(1.0, 0.5, 3), 1e-6)
    monkeypatch.setattr(system, "PARTS", {name: system.Part(lambda _: iter([made]), 1) for name in ("cold", "imports")})
    for name in ("cold", "imports"):
        assert system.main(["--quick", "--only", name, "--output", str(tmp_path)]) == 0
    stored = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert list(stored["sections"]) == ["cold", "imports"]
    assert [results.measurements_of(section) for section in stored["sections"].values()] == [[made], [made]]
    printed, table = capsys.readouterr().out, next(tmp_path.glob("*.md")).read_text()
    assert machine.cpu_name() in table and table.strip() in printed


def test_report_of_the_kernel_suite_is_read(tmp_path):
    info = {"op": "norm", "size": "8x8", "dtype": "float32", "contender": OURS, "max_abs_error": 1e-7}
    stats = {"median": 2.0, "min": 1.0, "rounds": 3}
    section = {"date": "2026-01-01", "commit": "c0ffee", "load_before": 0.1, "load_after": 1.9, "others": 0.02}
    path = tmp_path / "kernels.json"
    assert kernel_section(path) is None
    path.write_text(json.dumps({"section": section, "benchmarks": [{"extra_info": info, "stats": stats}]}))
    table = report.tables({"machine": {}, "sections": {}}, kernel_section(path))
    assert "| operations | 2026-01-01 | c0ffee | 0.1, 1.9 | 2% |" in table
    assert table.count("| norm | 8x8 | float32 |") == 2 and "2.00 (1.00) s" in table


def stub_parts(monkeypatch, **parts):
    facts = {**hunyuan_ext.capabilities(), "build": {"native": True}}
    monkeypatch.setattr(hunyuan_ext, "capabilities", lambda: facts)
    monkeypatch.setattr(system, "PARTS", {name: system.Part(run, 1) for name, run in parts.items()})


def one_row(*_):
    return iter([Measurement.timed("start", "-", "-", OURS, Times(1.0, 0.5, 3))])


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_an_interrupted_run_keeps_what_it_and_earlier_runs_found(tmp_path, monkeypatch, capsys):
    stub_parts(monkeypatch, early=one_row, late=one_row)
    assert system.main(["--quick", "--output", str(tmp_path)]) == 0
    stub_parts(monkeypatch, early=one_row, late=interrupt)
    assert system.main(["--quick", "--output", str(tmp_path)]) == 130
    stored = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert list(stored["sections"]) == ["early", "late"] and all(
        one["measurements"] for one in stored["sections"].values()
    )
    assert "interrupted" in capsys.readouterr().err


def test_a_kernel_suite_that_is_cut_off_leaves_its_earlier_report(tmp_path, monkeypatch):
    path = tmp_path / "machine-kernels.json"
    path.write_text("earlier")
    for outcome in (interrupt, lambda *_, **__: type("Done", (), {"returncode": 2})):
        monkeypatch.setattr(bench.subprocess, "run", outcome)
        with contextlib.suppress(KeyboardInterrupt):
            assert bench.kernels(path) == 2
        assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


def test_without_diffusers_a_line_says_how_to_get_it_and_the_rest_runs(tmp_path, monkeypatch, capsys):
    stub_parts(monkeypatch, beside=interrupt, alone=one_row)
    monkeypatch.setitem(system.PARTS, "alone", system.Part(one_row, 1, peer=False))
    monkeypatch.setattr(machine, "version", lambda name: None)
    assert system.main(["--quick", "--output", str(tmp_path)]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "pip install diffusers" in line]
    assert len(told) == 1 and "diffusers is not installed" in told[0]
    assert list(json.loads(next(tmp_path.glob("*.json")).read_text())["sections"]) == ["alone"]


def test_compiled_peer_is_measured_beside_this_package(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    found = list(compiled.compiled(QUICK))
    assert [one.task for one in found] == ["transformer forward", "VAE decode", "pipeline", "transformer forward"]
    assert {one.contender for one in found} == {compiled.COMPILED} and all(one.difference is not None for one in found)
    assert all(one.beside > 0 and one.ratio(one) == one.median / one.beside for one in found)


def test_targets_are_judged_against_whom_they_name():
    def one(contender, seconds, **more):
        return Measurement("VAE decode", "17x128x128", "bfloat16", contender, "s", seconds, seconds, 3, **more)

    rows = [one(OURS, 1.0), one(PEER, 1.6), one(tasks.FRAMEWISE, 1.7)]
    judged = {(v.target.task, v.target.against): v for v in targets.judge(rows) if v.measured is not None}
    assert {against: v.met for (task, against), v in judged.items()} == {PEER: True, f"{PEER}, framewise": False}
    rows.append(one(PEER, 1.2, allocator="tcmalloc"))
    best = next(v for v in targets.judge(rows) if (v.target.task, v.target.against) == ("VAE decode", targets.BEST))
    assert best.measured == 1.2 and best.met is False
    table = targets.verdicts(rows)
    assert "| VAE decode | 17x128x128 | bfloat16 | best peer variant | 1.3x | 1.20x | NOT MET |" in table
    assert "| pipeline | - | bfloat16 | diffusers | 2x | not measured |  |" in table


def test_floors_are_no_peers_and_are_judged_as_a_share():
    def one(contender, seconds):
        return Measurement("gate_residual", "8x8", "float32", contender, "s", seconds, seconds, 3)

    rows = [one(OURS, 1.3), one("torch: multiply, add", 2.0), one("add (the floor, less work)", 1.0)]
    assert "| gate_residual | 8x8 | float32 | floor | at most 1.2 of it | 1.30 of it | NOT MET |" in targets.verdicts(
        rows
    )
    assert "the same" in results.comparison(rows)


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
