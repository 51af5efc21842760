"""A file that is made in memory and does not fit is refused before it is begun."""

import resource
from types import SimpleNamespace

import pytest
import torch

from hunyuan_video.checkpoints.safetensors_file import TensorInfo
from hunyuan_video.cli import main
from hunyuan_video.planning import room


@pytest.fixture
def free(monkeypatch):
    """free(bytes): what the machine has left."""
    return lambda size: monkeypatch.setattr(room, "host_available", lambda: size)


def test_types_of_one_byte_stay_what_they_are():
    infos = [TensorInfo((10, 10), dtype) for dtype in (torch.float8_e4m3fn, torch.int8, torch.float16)]
    assert room.weight_bytes(infos, torch.float32) == 600 and room.weight_bytes(infos, None) == 400


def test_convert_refuses_in_one_line_and_streams_otherwise(free, tmp_path, capsys):
    free(1_000_000)
    assert main(["convert", "tiny", str(tmp_path / "official"), "--layout", "official"]) == 1
    line = capsys.readouterr().err
    assert "a .pt file is made in memory: " in line and "--layout diffusers, which stream" in line
    assert main(["convert", "tiny", str(tmp_path / "diffusers"), "--layout", "diffusers"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["diffusers"]
    free(1 << 40)
    assert main(["convert", "tiny", str(tmp_path / "official"), "--layout", "official"]) == 0


def test_a_limit_of_addresses_counts(monkeypatch, free):
    free(1 << 40)
    monkeypatch.setattr(room, "resource", SimpleNamespace(
        RLIMIT_AS=resource.RLIMIT_AS, RLIM_INFINITY=resource.RLIM_INFINITY, getpagesize=resource.getpagesize,
        getrlimit=lambda which: (1, 1),
    ))  # fmt: skip
    assert room.free_bytes() == 0
