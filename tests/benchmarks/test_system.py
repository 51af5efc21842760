"""The system benchmarks run at their smallest size and tell what they found; how fast anything is, is not tested."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import time

import pytest
import torch

if importlib.util.find_spec("benchmarks.cpu") is None or importlib.util.find_spec("diffusers") is None:
    pytest.skip("needs the benchmarks beside the tests, and diffusers", allow_module_level=True)

import hunyuan_ext
from benchmarks import __main__ as bench
from benchmarks import cases, machine, report, results, targets
from benchmarks.cpu import processes, tasks
from benchmarks.cpu.minis import QUICK
from benchmarks.results import OURS, PEER, Peer, Row, raced
from benchmarks.timing import Times, race


@pytest.mark.parametrize(
    ("task", "options"),
    [("blocks", {}), ("dit", {}), ("vae_decode", {}), ("pipeline", {"dtypes": ("float32",)})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_both_sides_compute_the_same(task, options):
    """Equal weights and inputs: float32 differs by rounding, bfloat16 by its eight bits."""
    result = list(getattr(tasks, task)(QUICK, **options))
    assert result
    for row in result:
        assert row.ms >= row.ms_min > 0 and row.peers[PEER].ms > 0
        assert row.error is not None and row.error < (2e-4 if row.dtype == "float32" else 5e-2), row


def test_framewise_decoding_is_seen_to_differ():
    scale = QUICK.__class__(**{**vars(QUICK), "small": QUICK.small.__class__(33, 16, 16, 1)})
    (row,) = tasks.vae_decode(scale, dtypes=("float32",))
    assert row.peers[tasks.FRAMEWISE].error > 100 * row.error


def test_cost_of_calls():
    rows = list(tasks.calls(QUICK))
    assert [row.dtype for row in rows] == list(tasks.DTYPES) and all(row.ms and row.peers[PEER].ms for row in rows)


def test_allocators_run_the_whole_comparison(monkeypatch):
    monkeypatch.setattr(processes, "allocators", lambda: {"huge pages": {"THP_MEM_ALLOC_ENABLE": "1"}})
    (row,) = processes.with_allocators(("vae",), "quick")
    assert row.settings == "huge pages" and row.ms and row.peers[PEER].ms


def test_peak_memory_counts_the_weights():
    (row,) = processes.memory("quick", [("pipeline", "small", OURS)])
    assert row.ms is None and 1e-3 < row.memory_gb < 4


def test_race_alternates_and_leaves_warm_up_out():
    calls = []
    times, values = race(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b") or 7}, seconds=0, rounds=(3, 9)
    )
    assert calls[-6:] == list("abbaab") and len(calls) in (8, 10)
    assert times["a"].rounds == 3 and values == {"a": None, "b": 7}


def race_of(ours, dtype="bfloat16", shape="17x128x128", op="VAE decode", settings="", **peers):
    """A row whose peers are given by milliseconds, under names that are keys."""
    made = Row(op, shape, dtype, ms=ours, ms_min=ours / 2, rounds=3, settings=settings)
    made.peers = {name: Peer(ms=ms, ms_min=ms / 2, rounds=3) for name, ms in peers.items()}
    return made


def cells(table, line=2):
    return [cell.strip() for cell in table.splitlines()[line].strip("|").split("|")]


def test_table_compares_with_the_first_and_with_the_best_peer():
    first = race_of(1000.0, **{PEER: 3000.0, "x, less work": 100.0})
    first.error = 1e-3
    other = race_of(1500.0, settings="tcmalloc", **{PEER: 2000.0})
    assert cells(report.comparison([first, other]))[3:] == [
        "1.00 (0.50) s", "3.00 (1.50) s (diffusers)", "3.00",
        "2.00 (1.00) s (diffusers, tcmalloc)", "2.00", "1.0e-03 / -",
    ]  # fmt: skip
    assert cells(report.same_settings([first, other]))[3:] == [
        "tcmalloc", "1.50 (0.75) s", "2.00 (1.00) s (diffusers)", "1.33",
    ]  # fmt: skip


def test_a_ratio_is_of_the_race_that_both_ran_in():
    early, late = race_of(1000.0, **{PEER: 3000.0}), race_of(2000.0, **{"diffusers, torch.compile": 4000.0})
    assert cells(report.comparison([early, late]))[3:] == [
        "1.00 (0.50) s", "3.00 (1.50) s (diffusers)", "3.00",
        "4.00 (2.00) s (diffusers, torch.compile)", "2.00", "- / -",
    ]  # fmt: skip
    other_memory = race_of(2000.0, settings="tcmalloc", **{PEER: 4000.0})
    ratios = [entry.ratio for entry in results.entries([early, other_memory])]
    assert ratios == [3.0, 4.0]  # this package's number is that of the C library's allocator


def test_memory_and_time_of_one_task_are_two_works():
    time, memory = race_of(1.0, **{PEER: 2.0}), Row("VAE decode", "17x128x128", "bfloat16", memory_gb=0.25)
    memory.peers[PEER] = Peer(memory_gb=1.0)
    assert len(results.grouped([time, memory])) == 2 and memory.ratio(PEER) == 4.0
    assert cells(report.comparison([memory]))[3:6] == ["250 MB", "1000 MB (diffusers)", "4.00"]


def test_results_of_other_parts_stay(tmp_path, monkeypatch, capsys):
    made = raced("start", "-", "-", {OURS: Times(1.0, 0.5, 3)}, {OURS: 1e-6})
    stub_parts(monkeypatch, cold=lambda _: iter([made]), imports=lambda _: iter([made]))
    for name in ("cold", "imports"):
        assert bench.main(["--quick", "--only", name, "--output", str(tmp_path)]) == 0
    stored = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert list(stored["parts"]) == ["cold", "imports"] and list(results.rows_of(stored)) == [made, made]
    printed, table = capsys.readouterr().out, next(tmp_path.glob("*.md")).read_text()
    assert machine.cpu_name() in table and table.strip() in printed


def test_results_of_an_older_format_are_not_mixed_with_new_ones(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"machine": {}, "sections": {"dit": {"measurements": []}}}))
    assert results.load_results(path) == {"format": results.FORMAT, "machine": {}, "parts": {}}


def test_report_of_the_kernel_suite_is_read():
    info = {"op": "norm", "size": "8x8", "dtype": "float32", "max_abs_error": 1e-7, "work": 4e9, "unit": "TB/s"}
    stats = {"median": 2.0, "min": 1.0, "rounds": 3}
    benchmarks = [{"extra_info": {**info, "contender": name}, "stats": stats} for name in (OURS, "torch")]
    (row,) = processes.operation_rows({"benchmarks": benchmarks})
    assert row.ms == 2000.0 and row.rate == 2e-3 and row.unit == "TB/s" and row.error == 1e-7
    assert row.peers["torch"] == Peer(2000.0, 1000.0, 3, 1e-7)
    description = {"date": "2026-01-01", "commit": "c0ffee", "load_before": 0.1, "load_after": 1.9, "others": 0.02}
    part = results.as_part([row], **description)
    table = report.tables({"machine": {}, "parts": {"operations": part}})
    assert "| operations | 2026-01-01 | c0ffee | 0.1, 1.9 | 2% | - |" in table
    assert table.count("| norm | 8x8 | float32 |") == 3 and "2.00 (1.00) s" in table


@pytest.mark.parametrize(
    ("op", "sizes", "expected"),
    [
        ("linear_gelu", {"rows": 2, "inner": 3, "outer": 5}, (60.0, "TFLOP/s")),
        ("gate_residual", {"tokens": 4, "width": 8}, (3 * 2 * 32.0, "TB/s")),
        ("upsample_conv3d", {}, None),
    ],
)
def test_work_of_operations(op, sizes, expected):
    assert cases.work(op, "bfloat16", sizes) == expected


def stub_parts(monkeypatch, **runs):
    description = {**hunyuan_ext.capabilities(), "build": {"native": True}}
    monkeypatch.setattr(hunyuan_ext, "capabilities", lambda: description)
    monkeypatch.setattr(bench, "PARTS", {name: bench.Part(run, 1) for name, run in runs.items()})


def one_row(*_):
    return iter([raced("start", "-", "-", {OURS: Times(1.0, 0.5, 3)}, {})])


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_an_interrupted_run_keeps_what_it_and_earlier_runs_found(tmp_path, monkeypatch, capsys):
    stub_parts(monkeypatch, early=one_row, late=one_row)
    assert bench.main(["--quick", "--output", str(tmp_path)]) == 0
    stub_parts(monkeypatch, early=one_row, late=interrupt)
    assert bench.main(["--quick", "--output", str(tmp_path)]) == 130
    stored = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert list(stored["parts"]) == ["early", "late"] and all(entry["rows"] for entry in stored["parts"].values())
    assert "interrupted" in capsys.readouterr().err


def test_a_kernel_suite_that_fails_leaves_its_earlier_rows(tmp_path, monkeypatch, capsys):
    stub_parts(monkeypatch, operations=one_row)
    assert bench.main(["--output", str(tmp_path), "--only", "operations"]) == 0
    earlier = next(tmp_path.glob("*.json")).read_text()
    stub_parts(monkeypatch, operations=lambda _: processes.operations())
    failed = subprocess.CalledProcessError(2, ["python", "-m", "pytest", "benchmarks"])
    monkeypatch.setattr(processes.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(failed))
    monkeypatch.setattr(machine, "_git", lambda *_: "c0ffee")
    assert bench.main(["--output", str(tmp_path), "--only", "operations"]) == 1
    assert next(tmp_path.glob("*.json")).read_text() == earlier
    assert "exit code 2" in capsys.readouterr().err


def test_without_diffusers_a_line_says_how_to_get_it_and_the_rest_runs(tmp_path, monkeypatch, capsys):
    stub_parts(monkeypatch, beside=interrupt, alone=one_row)
    monkeypatch.setitem(bench.PARTS, "alone", bench.Part(one_row, 1, peer=False))
    monkeypatch.setattr(machine, "version", lambda name: None)
    assert bench.main(["--quick", "--output", str(tmp_path)]) == 0
    hints = [line for line in capsys.readouterr().err.splitlines() if "pip install diffusers" in line]
    assert len(hints) == 1 and "diffusers is not installed" in hints[0]
    assert list(json.loads(next(tmp_path.glob("*.json")).read_text())["parts"]) == ["alone"]


def test_compiled_peer_is_measured_beside_this_package(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    result = list(tasks.compiled(QUICK))
    assert [row.op for row in result] == ["transformer forward", "VAE decode", "pipeline", "transformer forward"]
    for row in result:
        assert row.ms > 0 and list(row.peers) == [tasks.COMPILED]
        assert row.peers[tasks.COMPILED].ms > 0 and row.peers[tasks.COMPILED].error is not None


def test_targets_are_judged_against_whom_they_name():
    rows = [race_of(1000.0, **{PEER: 1600.0, tasks.FRAMEWISE: 1700.0})]
    judged = {(v.target.task, v.target.against): v for v in targets.judge(rows) if v.measured is not None}
    assert {against: v.met for (task, against), v in judged.items()} == {PEER: True, f"{PEER}, framewise": False}
    rows.append(race_of(1000.0, settings="tcmalloc", **{PEER: 1200.0}))
    best = next(v for v in targets.judge(rows) if (v.target.task, v.target.against) == ("VAE decode", targets.BEST))
    assert best.measured == 1.2 and best.met is False
    table = targets.table_of(targets.judge(rows))
    assert "| VAE decode | 17x128x128 | bfloat16 | best peer variant | 1.3x | 1.20x | NOT MET |" in table
    assert "| pipeline | - | bfloat16 | diffusers | 2x | not measured |  |" in table


def test_floors_are_no_peers_and_are_judged_as_a_share():
    peers = {"torch: multiply, add": 2000.0, "add (the floor, less work)": 1000.0}
    rows = [race_of(1300.0, "float32", "8x8", "gate_residual", **peers)]
    table = targets.table_of(targets.judge(rows))
    assert "| gate_residual | 8x8 | float32 | floor | at most 1.2 of it | 1.30 of it | NOT MET |" in table
    assert "the same" in report.comparison(rows)


def test_limits_of_this_package_alone():
    rows = [race_of(310.0, "-", "after import torch", "import of the pipeline")]
    memory = Row("VAE decode in 1 GB", "129x256x256", "float32", memory_gb=0.593)
    judged = {v.target.task: v for v in targets.judge([*rows, memory]) if v.measured is not None}
    assert judged["import of the pipeline"].met is False and judged["VAE decode in 1 GB"].met is True
    table = targets.table_of(judged.values())
    assert "at most 300.0 ms | 310.0 ms | NOT MET" in table and "at most 1000 MB | 593 MB | met" in table


def test_without_kernels_nothing_is_measured(monkeypatch, tmp_path, capsys):
    build = {"native": False, "reason": "no compiler"}
    monkeypatch.setattr(hunyuan_ext, "capabilities", lambda: {"build": build})
    assert bench.main(["--output", str(tmp_path)]) == 1
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
