"""The GPU script without a GPU: cases walked with fake tensors; rows, results and failures as they are reported."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

if importlib.util.find_spec("benchmarks.gpu") is None:
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)

from benchmarks import report, results
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import smoke, stages, worker
from benchmarks.gpu.cases import CASES
from benchmarks.gpu.peers import CONTENDERS, installed
from benchmarks.gpu.worker import Entry
from benchmarks.machine import Ceilings
from benchmarks.results import OURS, Peer, Row
from benchmarks.targets import verdict
from benchmarks.timing import Deadline

SCRIPT = Path(worker.ROOT) / "benchmarks" / "gpu.py"


def test_dry_run_walks_every_case():
    """In a process of its own: what a model caches in a dry run are fake tensors."""
    done = subprocess.run([sys.executable, str(SCRIPT), "--dry-run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.rstrip().endswith("ok")]
    assert len(lines) == len(CASES) + 5  # and the models
    assert "failed" not in done.stdout and "every case walked" in done.stdout


def test_a_regular_expression_selects_lines(capsys):
    assert gpu.main(["--dry-run", "--quick", "--only", "layer_norm"]) == 0
    assert capsys.readouterr().out.count("ok\n") == 2  # to bfloat16 and to FP8
    with pytest.raises(SystemExit, match="matches no line"):
        gpu.main(["--dry-run", "--only", "nothing like it"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so(capsys):
    assert gpu.main([]) == 1
    assert "no CUDA device" in capsys.readouterr().err


def test_work_of_the_cases():
    work = {(case.op, case.case.name): case.work() for case in CASES}
    assert work["attention", "H24 S119056"] == pytest.approx(174e12, rel=0.01)  # a block at 720p x 129 frames
    assert work["qk_norm_rope", "H24 S119056"] == pytest.approx(2 * 1.46e9, rel=0.05)
    assert work["fp8_gemm", "119056x3072x12288"] == pytest.approx(2 * 119056 * 3072 * 12288)
    sparse = [value for (op, _), value in work.items() if op == "attention_sparse"]
    assert all(0.1 * 4 * 24 * 115456**2 * 128 < value < 0.6 * 4 * 24 * 115456**2 * 128 for value in sparse)


def test_every_case_has_us_first_and_a_peer():
    assert {case.op for case in CASES} == set(CONTENDERS)
    assert all(ways[0].name == OURS and len(ways) > 1 for ways in CONTENDERS.values())


def row(**changes) -> Row:
    values = dict(ms=1.0, rate=650.0, unit="TFLOP/s", ceiling=0.8, error=1e-3, gate=600.0, goal=700.0)
    return Row("attention", "H24 S32768", "bfloat16", "cuda", **values | changes)


def test_line_and_verdict():
    measured = row(peers={"cuDNN": Peer(ms=1.1, error=2e-3), "FA3": Peer(note="not installed")})
    line = report.line(measured)
    assert all(part in line for part in ("1000.0 us", "650 TFLOP/s", "80% of ceiling", "x1.10 cuDNN", "[gate]"))
    assert "FA3" not in line and verdict(measured) == "gate"
    measured.peer_gate = 1.2
    assert verdict(measured) == "below gate"
    assert verdict(row(rate=701.0)) == "goal" and verdict(row(rate=1.0)) == "below gate"
    assert "failed: out of memory" in report.line(Row("step", "clip", "bfloat16", note="failed: out of memory"))


def test_another_precision_of_ours_is_no_peer():
    measured = row(peer_gate=1.2, peers={"diffusers": Peer(ms=1.5), f"{OURS} fp8": Peer(ms=0.5)})
    assert measured.best_ratio() == pytest.approx(1.5) and verdict(measured) == "gate"


def test_results_are_written_whole_and_read_again(tmp_path):
    path = tmp_path / "folder" / "gpu.json"
    rows = [row(peers={"cuDNN": Peer(ms=1.1)}), Row("x", "y", "z", "cuda", note="failed: no")]
    part = results.as_part(rows, ceilings={"copy": 4.0, "product": {"bfloat16": 700.0}}, title="Kernels")
    result = {"format": results.FORMAT, "machine": {"device": "none"}, "parts": {"table": part}}
    results.save_results(path, result)
    assert results.load_results(path) == result and list(results.rows_of(results.load_results(path))) == rows
    table = list(csv.DictReader(path.with_suffix(".csv").open()))
    assert [line["who"] for line in table] == [OURS, "cuDNN", OURS]
    assert float(table[1]["ratio"]) == pytest.approx(1.1) and table[2]["note"] == "failed: no"
    assert sorted(file.name for file in path.parent.iterdir()) == ["gpu.csv", "gpu.json"]
    text = report.tables(result)
    assert "| attention | H24 S32768 | bfloat16 | 1.000 ms | 1.100 ms (cuDNN) | 1.10 | the same | 1.10 |" in text
    assert "| 650 TFLOP/s | 80% | gate |" in text and "| x | y | z | failed: no |" in text and "## Kernels" in text
    assert "copy 4.00 TB/s, products bfloat16 700 TFLOP/s" in text and "## Targets" not in text


def test_the_results_of_the_h200_are_rates_that_a_planner_can_read():
    path = next(results.RESULTS.glob("nvidia-h200-*.json"))
    result = results.load_results(path)
    rows = {(entry.op, entry.shape): entry for entry in results.rows_of({"parts": {"table": result["parts"]["table"]}})}
    attention = rows["attention", "H24 S119056"]
    assert attention.device == "cuda" and attention.unit == "TFLOP/s"
    assert attention.rate == pytest.approx(174.2e12 / attention.ms / 1e9, rel=1e-3)
    measured = [(case, rows[key]) for case in CASES if (key := (case.op, case.case.name)) in rows]
    assert len(measured) > 35
    for case, of_it in measured:
        assert of_it.rate == pytest.approx(case.work() / of_it.ms / 1e9, rel=1e-6), case
    assert path.with_suffix(".csv").read_text() == results.as_csv(results.rows_of(result))
    assert path.with_suffix(".md").read_text() == report.tables(result)


FAKE_WORKER = """
import json, sys, time
print(json.dumps({"ceilings": {"copy": 4.0, "product": {"bfloat16": 700.0, "fp8": 1400.0}}}), flush=True)
for number in sys.stdin:
    if number.strip() == "1": sys.exit(9)
    if number.strip() == "2": time.sleep(60)
    row = {"op": "case", "shape": number.strip(), "dtype": "bfloat16", "ms": 1.0, "peers": {"torch": {"ms": 2.0}}}
    print("noise of a library\\n{more of it")
    print(json.dumps({"row": row, "healthy": number.strip() != "3"}), flush=True)
"""


def test_a_crash_or_a_hang_costs_one_line(monkeypatch):
    started = []

    def popen(command, **options):
        started.append(command)
        return subprocess_popen([sys.executable, "-c", FAKE_WORKER], **options)

    subprocess_popen = subprocess.Popen
    monkeypatch.setattr(worker.subprocess, "Popen", popen)
    monkeypatch.setattr(worker, "PATIENCE", -19.0)  # a second a line
    lines = [(i, Entry((f"op {i}", str(i), "bfloat16"), 1.0, None)) for i in range(6)]
    lines[5] = (5, Entry(("op 5", "5", "bfloat16"), 1e6, None))
    rows = []
    ceilings = worker.run_table(lines, False, Deadline(100.0), rows.append)
    assert ceilings == Ceilings(4.0, {"bfloat16": 700.0, "fp8": 1400.0})
    assert [entry.shape for entry in rows] == ["0", "1", "2", "3", "4", "5"]
    notes = [entry.note for entry in rows]
    assert notes[0] == notes[3] == notes[4] == "" and rows[0].ratio("torch") == 2.0
    assert "status 9" in notes[1] and "not done after 1 s" in notes[2] and notes[5].startswith("skipped")
    assert len(started) == 4  # again after the crash, the hang and the kernel that left the device unusable


STUBBORN_WORKER = """
import json, sys, time
print(json.dumps({"ceilings": {"copy": 4.0, "product": {"bfloat16": 700.0, "fp8": 1400.0}}}), flush=True)
for number in map(int, sys.stdin):
    row = {"op": "ours", "shape": str(number), "dtype": "bfloat16", "ms": None, "peers": {}}
    if number == 0:
        print(json.dumps({"row": row | {"ms": 5.0}}), flush=True)
        time.sleep(60)  # in a peer
    if number in (1, 2):
        print(json.dumps({"row": row | {"note": "failed: an illegal memory access"}, "healthy": False}), flush=True)
        continue
    if number == 4: time.sleep(60)
    print(json.dumps({"row": row | {"ms": 6.0}, "healthy": True}), flush=True)
"""


def test_a_peer_that_hangs_costs_nothing_of_ours_and_what_is_broken_is_left(monkeypatch):
    popen = subprocess.Popen
    monkeypatch.setattr(
        worker.subprocess, "Popen", lambda command, **options: popen([sys.executable, "-c", STUBBORN_WORKER], **options)
    )
    monkeypatch.setattr(worker, "PATIENCE", -19.0)  # a second a line
    ops = ["sound", "crashes", "crashes", "crashes", "hangs", "hangs", "sound"]
    rows = []
    worker.run_table(
        [(i, Entry((op, str(i), "bfloat16"), 1.0, None)) for i, op in enumerate(ops)],
        False,
        Deadline(100.0),
        rows.append,
    )
    assert [entry.ms for entry in rows] == [5.0, None, None, None, None, None, 6.0]
    assert "not done" in rows[0].peers["peers"].note and rows[0].note == ""
    notes = [entry.note.partition(":")[0] for entry in rows[1:6]]
    assert notes == ["failed", "failed", "skipped", "failed", "skipped"]


def test_the_worker_tells_what_is_ours_before_it_measures_peers(monkeypatch, capsys):
    def measure(device, ceilings, report):
        report(Row("op", "0", "bfloat16", ms=2.0))
        raise ValueError("a peer")

    monkeypatch.setattr(worker, "measure_ceilings", lambda device: Ceilings(4.0, {"bfloat16": 700.0, "fp8": 1400.0}))
    monkeypatch.setattr(worker, "entries", lambda quick: [Entry(("op", "0", "bfloat16"), 1.0, measure)])
    monkeypatch.setattr(worker, "device_works", lambda: False)
    monkeypatch.setattr(sys, "stdin", io.StringIO("0\n"))
    worker.main({"quick": True, "ceilings": None})
    ceilings, ours, all_of_it = map(json.loads, capsys.readouterr().out.splitlines())
    assert (
        ceilings["ceilings"]["product"]["bfloat16"] == 700.0
        and ours == {"row": ours["row"]}
        and ours["row"]["ms"] == 2.0
    )
    assert all_of_it["healthy"] is False and all_of_it["row"]["note"] == "failed: ValueError: a peer"


def test_smoke_reports_every_case_until_the_device_is_unusable(monkeypatch, capsys):
    def error_of(case, device):
        number = smoke.CASES.index(case)
        if number in (1, 4):
            raise RuntimeError(f"case {number} is wrong")
        return 1e-3 if number != 2 else float("nan")

    monkeypatch.setattr(smoke, "error_of", error_of)
    monkeypatch.setattr(smoke.torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(smoke, "device_works", lambda: False)
    assert smoke.main(["4"]) == 1
    assert re.findall(r"^case (\d+)", capsys.readouterr().out, flags=re.M) == ["4"]
    monkeypatch.setattr(smoke, "device_works", lambda: True)
    assert smoke.main([]) == 1
    text = capsys.readouterr().out
    assert f"case {len(smoke.CASES) - 1} of" in text and "nan >" in text and text.count("failed: RuntimeError") == 2
    assert text.splitlines()[-1] == "cases from 0 on: 3 failed"


def test_what_a_stage_leaves_running_ends_with_it(tmp_path):
    """A child that computes on would slow down what is measured next."""
    child = "import time; open('started', 'w').close(); time.sleep(60)"
    code = f"""
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {child!r}])
while not pathlib.Path("started").exists(): time.sleep(0.05)
"""
    for command in (f"{code}time.sleep(60)", code):  # killed; or done itself
        stages.run([sys.executable, "-c", command], tmp_path, 3)
        (tmp_path / "started").unlink()
        end = time.monotonic() + 10
        while left := processes_in(tmp_path):
            assert time.monotonic() < end, left
            time.sleep(0.05)


def processes_in(folder: Path) -> list[str]:
    """Numbers of the processes whose working directory this is."""
    result = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            result += [process.name] * (os.readlink(process / "cwd") == str(folder))
    return result


def test_smoke_goes_on_behind_a_case_that_ends_its_process(tmp_path):
    """The same for every tool: a process that dies at a case is followed by one that begins with the next."""
    code = """
import os, sys
assert os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1"  # else an access past a tensor is one into torch's pool
for i in range(int(sys.argv[1]), 4):
    print(f"case {i} of 4: op", flush=True)
    if i in (1, 2): os._exit(9)
print("done")
"""
    stage = stages.case_by_case([sys.executable, "-c", code], tmp_path, 20)
    assert stage.failed and "status 9" in stage.summary
    assert stage.output.splitlines() == ["case 0 of 4: op", "case 1 of 4: op", "", "case 2 of 4: op"]


def test_smoke_cases_of_fp8_products_reach_the_kernel():
    for case in smoke.CASES:
        if case.op in ("fp8_linear", "fp8_mlp"):
            assert case.case.sizes["inner"] % 16 == case.case.sizes["outer"] % 16 == 0, case.case.name


GPU_TESTS = """
import os, time
import pytest, torch

def sound(): pass
def broken(): raise RuntimeError("CUDA error: an illegal memory access was encountered")
torch.cuda.synchronize = sound

def test_first(): pass
def test_leaves_the_device_unusable(): torch.cuda.synchronize = broken
def test_second(): pass
@pytest.mark.parametrize("size", [1, 2])
def test_hangs(size): time.sleep(60)
def test_third(): pass
"""


def test_gpu_tests_survive_one_that_breaks_the_device(tmp_path):
    pytest.importorskip("xdist")
    (tmp_path / "conftest.py").write_text((Path(worker.ROOT) / "tests" / "gpu" / "conftest.py").read_text())
    (tmp_path / "test_faults.py").write_text(GPU_TESTS)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-n", "1", "--max-worker-restart", "9"]
    variables = {"HUNYUAN_GPU_TEST_SECONDS": "2", "TMPDIR": str(tmp_path)}
    stage = stages.run([*command, str(tmp_path)], tmp_path, 240, variables)
    assert stage.output.count(" PASSED ") == 3 + 1  # what the unusable device was left by passed, then ended
    assert "2 failed" in stage.summary and "1 skipped" in stage.summary
    for name in ("unusable", "hangs"):
        assert re.search(f"worker 'gw\\d' crashed while running .*{name}", stage.output)


def test_a_stage_that_fails_or_takes_too_long(tmp_path):
    fine = stages.run([sys.executable, "-c", "print('3 passed')"], tmp_path, 20)
    assert fine.summary == "3 passed" and not fine.failed
    failed = stages.run([sys.executable, "-c", "print('1 failed'); raise SystemExit(3)"], tmp_path, 20)
    assert failed.failed and failed.summary == "failed with status 3: 1 failed"
    slow = stages.run([sys.executable, "-c", "import time; time.sleep(30)"], tmp_path, 0.5)
    assert slow.failed and "not done after" in slow.summary


@pytest.mark.parametrize("case", smoke.CASES, ids=lambda case: f"{case.op} {case.case.name}")
def test_contenders_compute_the_same(case):
    """On the CPU, where kernels are composed: inputs, peers and float64 results belong together."""
    inputs = case.inputs("cpu")
    exact = case.exact(inputs)
    limit = smoke.FP8_ERROR if case.label == "fp8" else smoke.ERROR
    with torch.no_grad():
        for contender in CONTENDERS[case.op]:
            if not installed(contender):
                continue
            if "_scaled_mm" in contender.name and case.case.sizes["inner"] > 1000:
                continue  # torch computes it an element at a time on a CPU: minutes
            error = float(case.relative_error(exact, contender.prepare(inputs)()))
            if "dense" in contender.name:
                assert error > limit, "the dense peer attends to more"
            else:
                assert error <= limit, f"{contender.name}: {error:.2e}"
