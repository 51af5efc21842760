"""The command in process, in an empty folder, against a random miniature checkpoint."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from helpers.random_checkpoint import write_random_checkpoint

from hunyuan_video.cli import main


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Folder of a random checkpoint (4 steps, CFG 3, 32x48, 5 frames, text length 8)."""
    return write_random_checkpoint(tmp_path_factory.mktemp("random-checkpoint"))


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty current folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def command(work, capsys):
    """command("sample", ...) -> Result."""

    def run(*words: object) -> Result:
        code = main([str(word) for word in words])
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def sample(command, checkpoint):
    """`hunyuan-video sample WORDS` with the random checkpoint."""
    return lambda *words: command("sample", "--model", checkpoint, "--device", "cpu", *words)
