"""Commands that are killed: nothing half-written, and the second run ends as an unbroken one; `make kill` for more."""

from __future__ import annotations

import pytest

from robustness.kill import SCENARIOS, faults_of, half_written, moments_of


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_killed_command_run_again_ends_as_an_unbroken_one(world, tmp_path, name):
    assert faults_of(name, world, tmp_path / "work", moments_of(2, seed=3)) == []


def test_half_written_files_are_seen():
    whole = {"v.mp4": "a", "log.jsonl": "b"}
    assert half_written({"v.mp4": "x", "log.jsonl": "x", ".v.tmp.mp4": "y"}, whole) == ["v.mp4 is half written"]
    assert half_written({"v.mp4": "a"}, whole) == []
