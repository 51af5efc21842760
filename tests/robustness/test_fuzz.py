"""A few damaged files of every format through the commands that read them; `make fuzz` runs thousands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustness.cases import Answer, faults_of, in_process, judged, left, target_of
from robustness.targets import by_format

SEEDS = [int(word) for word in (Path(__file__).parent / "seeds.txt").read_text().split("\n") if word.isdigit()]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_wrong_once(world, tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    assert faults_of(seed, world, tmp_path / "case", in_process) == []


@settings(max_examples=22, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_damaged_files_end_in_one_line(world, tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    assert faults_of(seed, world, tmp_path / "case", in_process) == [], f"repeat with --only {seed}"


def test_formats_take_turns_and_every_file_has_its():
    formats = by_format()
    assert len(formats) >= 10
    assert {Path(target_of(seed).path).suffix for seed in range(len(formats))} == set(formats)
    seen = {target_of(seed) for seed in range(len(formats) * max(map(len, formats.values())))}
    assert seen == {target for targets in formats.values() for target in targets}


LINE = "hunyuan-video sample: wrong\n"


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer(1, "", LINE, 0.1), None),
        (Answer(0, "", "note: something\n", 0.1), None),
        (Answer(1, "x: a file\n  not whole: cut\n", "", 0.1), None),
        (Answer(1, "", "", 0.1), "0 lines for exit 1"),
        (Answer(1, "", LINE + LINE, 0.1), "2 lines"),
        (Answer(0, "", "libpng error\n", 0.1), "1 lines for exit 0"),
        (Answer(-11, "", LINE, 0.1), "exit -11"),
        (Answer(1, "", "hunyuan-video sample: KeyError: 'x'; this is a bug or\n", 0.1), "this is a bug"),
        (Answer(1, "", "Traceback (most recent call last):\n", 0.1), "Traceback"),
        (Answer(1, "", LINE, 21), "21 s"),
    ],
)
def test_the_judge_sees(answer, fault):
    faults = judged(answer)
    assert faults == [] if fault is None else any(fault in line for line in faults)


def test_the_judge_sees_what_is_left_behind(tmp_path):
    target = target_of(0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".v.12-00000000.tmp.mp4").write_text("")
    assert left(tmp_path, {"out"}, target, 1, LINE) and left(tmp_path, {"out"}, target, 0, "")
    assert left(tmp_path, {"out", "out/.v.12-00000000.tmp.mp4", "gone"}, target, 1, LINE) == ["gone: ['gone']"]
