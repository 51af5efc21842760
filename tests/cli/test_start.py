"""`hunyuan-video sample --start` and --sigmas: resumed, shown again, and refused before anything is loaded."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from hunyuan_video.media import read_metadata, save_video

PROMPT = "a red star"


@pytest.fixture
def start(work):
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), np.uint8)
    save_video(work / "start.apng", frames, fps=8)
    return work / "start.apng"


def test_show_prints_the_command_that_makes_it_again(command, checkpoint, start, work):
    words = ("sample", PROMPT, "--model", checkpoint, "--seed", 3, "--sigmas", "1,0.8,0.3333333", "--start", start)
    result = command(*words, "--strength", "0.67", "-o", "a.apng")
    assert result.code == 0, result.err
    shown = command("show", "a.apng").out
    assert "--start start.apng" in shown and "--strength 0.67" in shown and "--sigmas 1,0.8,0.3333333,0" in shown
    assert "--num-inference-steps" not in shown and "--flow-shift" not in shown
    settings = json.loads(command("show", "--json", "a.apng").out)["settings"]
    assert settings["sigmas"] == [1.0, 0.8, 0.3333333, 0.0] and settings["num_inference_steps"] == 3
    again = shlex.split(shown.replace("-o a.apng", "-o again.apng"))
    assert command(*again[1:]).code == 0
    assert (work / "again.apng").read_bytes() == (work / "a.apng").read_bytes()
    assert read_metadata(work / "again.apng")["settings"]["strength"] == 0.67


def test_the_starts_path_is_expanded(command, checkpoint, start, work, monkeypatch):
    monkeypatch.setenv("HOME", str(work))
    monkeypatch.setenv("WHERE", str(work))
    for path in ("--start=~/start.apng", "--start=$WHERE/start.apng"):
        result = command(
            "sample", PROMPT, "--model", checkpoint, "--sigmas", "0.5", path, "--strength", "1", "-o", "a.webp"
        )
        assert result.code == 0, result.err


def test_an_interrupted_run_goes_on_without_its_start(command, checkpoint, start, work, monkeypatch):
    words = ("sample", PROMPT, "--model", checkpoint, "--seed", 3, "--start", start, "--strength", 0.8)
    assert command(*words, "-o", "whole.apng").code == 0
    from hunyuan_video.cli.progress import Progress

    def interrupt(self, step):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "update", interrupt)
        result = command(*words, "-o", "a.apng")
    assert result.code == 130 and "interrupted at step 1 of 3" in result.err
    start.unlink()
    assert command("sample", "--resume", "a.state.safetensors").code == 0
    assert read_metadata(work / "a.apng")["settings"] == read_metadata(work / "whole.apng")["settings"]
    assert (work / "a.apng").read_bytes() == (work / "whole.apng").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--start", "missing.mp4"), 1, "missing.mp4: not a readable video or picture (No such file or directory)"),
        (("--start", "start.apng", "--num-frames", "9"), 2, "video has 5 frames at 8 per second and num_frames is 9"),
        (("--strength", "0.5"), 2, "none was given; give one with video= (--start FILE)"),
        (("--sigmas", "0.5,0.9"), 2, "sigmas must fall from noise to data"),
        (("--sigmas", "1,0.9", "--flow-shift", "3"), 2, "give either them or flow_shift"),
    ],
)
def test_what_cannot_work_is_told_before_loading(command, checkpoint, start, work, monkeypatch, words, code, message):
    from hunyuan_video import HunyuanVideoPipeline

    monkeypatch.setattr(HunyuanVideoPipeline, "from_pretrained", None)
    result = command("sample", PROMPT, "--model", checkpoint, *words, "-o", "out.webp")
    assert result.code == code and message in result.err.strip().splitlines()[-1]
    assert not (work / "out.webp").exists()
