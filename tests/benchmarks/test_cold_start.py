"""From a sentence to a file with the bundled checkpoint: the peer's script does the same work, ours needs no peer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from hunyuan_video.checkpoints.layout import BUNDLED

LIGHT = """
import sys
from hunyuan_video.cli import main
assert main(sys.argv[1:]) == 0
heavy = {"transformers", "diffusers", "accelerate", "scipy", "pandas", "huggingface_hub"} & set(sys.modules)
assert not heavy, f"sampling imported {heavy}"
"""

pytestmark = pytest.mark.skipif(
    not (BUNDLED["tiny"] / "model_index.json").exists(), reason="no bundled checkpoint in this installation"
)


def test_sampling_imports_no_peer(tmp_path):
    output = tmp_path / "a.mp4"
    words = ["sample", "a red circle moves right", "--seed", "3", "--num-inference-steps", "1", "-o", str(output)]
    subprocess.run([sys.executable, "-c", LIGHT, *words], check=True, cwd=tmp_path)
    assert output.stat().st_size > 0


def test_peer_makes_the_same_video():
    if importlib.util.find_spec("benchmarks.cpu.processes") is None or importlib.util.find_spec("diffusers") is None:
        pytest.skip("needs the benchmarks beside the tests, and diffusers")
    from benchmarks.cpu.processes import cold_start

    (row,) = cold_start(rounds=1, steps=2)
    assert row.ms > 0 and row.peers["diffusers"].ms > 0
    assert row.error < 0.02  # of the range of a pixel, after two lossy encoders
