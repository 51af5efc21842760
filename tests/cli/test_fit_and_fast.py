"""`sample --fit`: sizes that the model cannot make; `sample --fast`: settings that were measured for a checkpoint."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.checkpoints.adapters import fast_settings
from hunyuan_video.checkpoints.layout import BUNDLED
from hunyuan_video.checkpoints.pipeline import read_sampling_json
from hunyuan_video.cli import main
from hunyuan_video.media.metadata import read_metadata
from hunyuan_video.models.grid import Grid
from hunyuan_video.sampling.models import read_defaults
from hunyuan_video.sampling.request import resolve_settings

PROMPT = "a red star moves left"


def test_the_middle_of_the_next_larger_video(sample, work, checkpoint):
    words = "--height 30 --width 50 --num-frames 4 --seed 3 --fit -o frames/".split()
    assert sample(PROMPT, *words).code == 0
    whole = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")(
        PROMPT, seed=3, height=32, width=64, num_frames=5
    ).frames[0]
    names = sorted((work / "frames").iterdir())
    assert len(names) == 4
    for name, frame in zip(names, whole, strict=False):
        assert np.array_equal(np.asarray(Image.open(name)), frame[1:31, 7:57])


def test_the_recorded_command_makes_it_again(sample, work, command):
    assert (
        sample(PROMPT, "--height", 30, "--width", 50, "--num-frames", 4, "--seed", 3, "--fit", "-o", "a.webp").code == 0
    )
    record = read_metadata("a.webp")
    assert "--height 30 --width 50 --num-frames 4" in record["command"] and record["command"].endswith("--fit")


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 32, 48), (6, 33, 49), (128, 719, 1279)])
def test_coverings_fit_and_are_the_smallest(size):
    grid = Grid()
    covering = grid.covering(*size)
    assert grid.fits(*covering) and all(a >= b for a, b in zip(covering, size, strict=True))
    assert all(a - b < step for a, b, step in zip(covering, size, (4, 16, 16), strict=True))


def test_help_lists_the_trained_sizes(capsys):
    assert main(["sample", "--help"]) == 0
    assert "832x1104" in capsys.readouterr().out


@pytest.fixture
def measured(checkpoint, tmp_path):
    folder = tmp_path / "measured"
    shutil.copytree(checkpoint, folder)
    sampling = json.loads((folder / "sampling.json").read_text())
    sampling["fast"] = {"num_inference_steps": 3, "solver": "ab2", "measured": "2x on a machine"}
    (folder / "sampling.json").write_text(json.dumps(sampling))
    return folder


def test_fast_takes_what_was_measured_and_says_so(measured, command):
    result = command("sample", PROMPT, "--model", measured, "--seed", 1, "--num-frames", 1, "--fast", "-o", "a.png")
    assert result.code == 0
    assert "fast: --num-inference-steps 3, --solver ab2 (2x on a machine)" in result.err
    used = read_metadata("a.png")["settings"]
    assert (used["num_inference_steps"], used["solver"]) == (3, "ab2")
    given = ["--sigmas", "1,0.5", "--solver", "heun"]
    result = command("sample", PROMPT, "--model", measured, "--num-frames", 1, "--fast", *given, "-o", "b.png")
    assert result.code == 0 and "fast: --solver heun (2x" in result.err


def test_fast_without_a_measurement_is_refused(checkpoint, measured, command):
    result = command("sample", PROMPT, "--model", checkpoint, "--fast")
    assert result.code == 2 and "no faster settings were measured" in result.err
    (measured / "sampling.json").write_text(json.dumps({"fast": {"steps": 3}}))
    result = command("sample", PROMPT, "--model", measured, "--fast")
    assert result.code == 1 and "wrong entry 'fast'" in result.err
    for flag in ("--fast", "--fit"):
        assert "leave it out" in command("sample", "--resume", "a.safetensors", flag).err


@pytest.mark.parametrize(("adapter", "steps"), [("none", 5), (None, 3)])
def test_the_bundled_models_entries_are_settings(adapter, steps):
    values = read_sampling_json(BUNDLED["tiny"])
    fast = fast_settings(values, adapter)
    chosen = {name: value for name, value in fast.items() if name != "measured"}
    settings = resolve_settings(chosen, read_defaults(BUNDLED["tiny"], adapter), Grid())
    assert settings.num_inference_steps == steps and " prompts" in fast["measured"]
    assert fast_settings(values, "few_step,few_step:0.5") is None
