"""Sequences of runs: what a file may say, order and overlap, failures, interruptions."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hunyuan_video.errors import UserError
from hunyuan_video.training.config import SequenceRun, load_config
from hunyuan_video.training.run import run
from hunyuan_video.training.run_list import groups_of, share, side_by_side

RECIPES = Path(__file__).parents[2] / "recipes"
WAIT = """
import pathlib, sys, time
mine, other = pathlib.Path(sys.argv[1] + ".here"), pathlib.Path(sys.argv[2] + ".here")
mine.touch()
while not other.exists():
    time.sleep(0.01)
print("met", flush=True)
"""

ENDLESS = """
import pathlib, sys, time
pathlib.Path(sys.argv[1]).touch()
while True:
    time.sleep(0.01)
"""
FAILING = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
print("no disk")
sys.exit(3)
"""
PARENT = """
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
from hunyuan_video.training.run_list import side_by_side
child = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
command = lambda path: [sys.executable, "-c", child]
side_by_side([["a"], ["b"]], Path(sys.argv[1]), command, lambda line: print(line, flush=True))
"""


def python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def commands(table):
    return lambda path: table[path.name]


def test_groups():
    runs = ("a.yaml", ["b.yaml", ["c.yaml", "d.yaml"]])
    assert groups_of(SequenceRun(runs=runs), "x") == [[["a.yaml"]], [["b.yaml"], ["c.yaml", "d.yaml"]]]


@pytest.mark.parametrize("entry", [3, [], [[]], ["a.yaml", 3], [["a.yaml", ["b.yaml"]]], {"a": "b"}])
def test_mistakes_in_groups_are_named(entry):
    with pytest.raises(UserError, match=r"all.yaml: runs\[1\] must be a file name"):
        groups_of(SequenceRun(runs=("a.yaml", entry)), "all.yaml")


def test_the_recipe_runs_every_file_once_and_after_what_it_reads(request):
    folder = request.config.rootpath / "recipes" / "tiny"
    made: set[str] = set()
    seen = []
    for chains in groups_of(load_config(folder / "all.yaml"), "all.yaml"):
        before = set(made)
        for chain in chains:
            ready = set(before)  # a chain sees nothing of those beside it
            for name in chain:
                seen.append(name)
                config = load_config(folder / name)
                for key in ("vae", "text", "init_from", "teacher", "transformer"):
                    needed = getattr(config, key, "")
                    assert not needed or needed.removesuffix("/export") in ready, (name, key)
                ready.add(config.output)
            made |= ready
    assert sorted(seen) == sorted(path.name for path in folder.glob("*.yaml") if path.name != "all.yaml")


def test_chains_overlap_and_their_lines_carry_the_name(tmp_path):
    table = {
        "a.yaml": python(WAIT, tmp_path / "a", tmp_path / "b"),
        "b.yaml": python(WAIT, tmp_path / "b", tmp_path / "a"),
        "c.yaml": python("import os; print(os.environ['OMP_NUM_THREADS'])"),
    }
    lines = []
    side_by_side([["a.yaml"], ["b.yaml", "c.yaml"]], tmp_path, commands(table), lines.append)
    assert sorted(lines) == ["[a] met", "[b] met", f"[c] {share(2)}"]
    assert lines.index("[c] " + str(share(2))) > lines.index("[b] met")


def test_share_of_the_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert share(1) == share(3) == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert share(1) >= share(2) >= 1


def test_a_failure_stops_the_others(tmp_path):
    table = {"bad.yaml": python(FAILING, tmp_path / "on"), "never.yaml": python("pass"),
             "slow.yaml": python(ENDLESS, tmp_path / "on")}  # fmt: skip
    lines = []
    with pytest.raises(UserError, match=r"bad.yaml failed \(exit code 3\); stopped beside it: slow.yaml.*--resume"):
        side_by_side([["slow.yaml"], ["bad.yaml", "never.yaml"]], tmp_path, commands(table), lines.append)
    assert lines == ["[bad] no disk"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_stops_all(tmp_path, number):
    parent = subprocess.Popen(python(PARENT, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    children = [int(parent.stdout.readline().split()[1]) for _ in range(2)]
    parent.send_signal(number)
    assert parent.wait(30) != 0
    parent.stdout.close()
    assert not any(alive(child) for child in children)


def alive(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def test_real_runs_side_by_side_and_a_missing_teacher(tmp_path):
    """The real command: one run ends well, the other says what it lacks, and the sequence which run that was."""
    (tmp_path / "empty.yaml").write_text("kind: sequence\nruns: []\n")
    (tmp_path / "bundle.yaml").write_text(f"kind: bundle\noutput: {tmp_path}/out\ntransformer: {tmp_path}/absent\n")
    (tmp_path / "all.yaml").write_text("kind: sequence\nruns: [empty.yaml, [empty.yaml, bundle.yaml]]\n")
    lines: list[str] = []
    with pytest.raises(UserError, match=r"bundle.yaml failed \(exit code 1\)"):
        run(tmp_path / "all.yaml", report=lines.append)
    assert lines[:2] == ["== empty.yaml", "== empty.yaml | bundle.yaml"]
    assert any(line.startswith("[bundle] ") and "absent" in line for line in lines)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("entry", ["all.yaml", "[all.yaml, all.yaml]"])
def test_a_sequence_that_holds_itself_is_refused(tmp_path, entry):
    (tmp_path / "all.yaml").write_text("kind: sequence\nruns: [more.yaml]\n")
    (tmp_path / "more.yaml").write_text(f"kind: sequence\nruns: [{entry}]\n")
    with pytest.raises(UserError, match="all.yaml: a sequence cannot hold itself"):
        run(tmp_path / "all.yaml", report=lambda line: None)


def test_a_mistake_in_a_later_file_is_found_before_the_first_runs(tmp_path):
    (tmp_path / "text.yaml").write_text(f"kind: text\noutput: {tmp_path}/text\n")
    (tmp_path / "flow.yaml").write_text("kind: flow\nlopo: {}\n")
    (tmp_path / "all.yaml").write_text("kind: sequence\nruns: [text.yaml, flow.yaml]\n")
    with pytest.raises(UserError, match="flow.yaml: unknown key 'lopo'"):
        run(tmp_path / "all.yaml", report=lambda line: None)
    assert not (tmp_path / "text").exists()


def test_torchrun_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    (tmp_path / "all.yaml").write_text("kind: sequence\nruns: [[a.yaml, b.yaml]]\n")
    with pytest.raises(UserError, match="without torchrun"):
        run(tmp_path / "all.yaml")
    assert isinstance(load_config(Path(tmp_path / "all.yaml")), SequenceRun)


def test_a_dry_run_waits_for_what_an_earlier_run_makes(tmp_path):
    made = tmp_path / "made"
    (tmp_path / "bundle.yaml").write_text(f"kind: bundle\noutput: {made}\n")
    (tmp_path / "encode.yaml").write_text(
        f"kind: encode\ncheckpoint: {made}\noutput: {tmp_path}/data\nbuckets: [5x16x32]\n"
    )
    (tmp_path / "flow.yaml").write_text(f"kind: flow_encoded\ncheckpoint: {made}\ndata: {tmp_path}/data\n")
    (tmp_path / "all.yaml").write_text("kind: sequence\nruns: [bundle.yaml, encode.yaml, flow.yaml]\n")
    lines: list[str] = []
    run(tmp_path / "all.yaml", dry_run=True, report=lines.append)
    assert f"{tmp_path}/flow.yaml: valid; it is planned when {made} is there" in lines
    run(tmp_path / "flow.yaml", dry_run=True, report=lines.append)  # alone, too, it names what is missing
    assert f"  checkpoint: {made} is not there yet" in lines and f"  data: {tmp_path}/data is not there yet" in lines


def test_the_recipes_of_the_second_edition_are_valid():
    for name in ("all.yaml", "gpu/all.yaml"):
        lines: list[str] = []
        run(RECIPES / "tiny2" / name, dry_run=True, report=lines.append)
        valid = [line for line in lines if line.startswith(str(RECIPES)) and ": valid" in line or "a valid" in line]
        assert len(valid) >= 13
