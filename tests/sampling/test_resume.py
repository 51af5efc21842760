"""A run that is cut anywhere, even by SIGKILL, and continued gives the frames of an unbroken run, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.random_checkpoint import write_random_checkpoint
from safetensors.torch import save_file

from hunyuan_video import ArgumentError, HunyuanVideoPipeline, UserError
from hunyuan_video.fingerprint import fingerprint
from hunyuan_video.flow import SOLVERS
from hunyuan_video.sampling.resume_state import SamplingState

PROMPT = "a red star moves left"


def stop_after(pipe, steps: int, path, **arguments) -> None:
    stream = pipe.stream(PROMPT, checkpoint_to=path, **arguments)
    for event in stream:
        if event.step == steps:
            stream.close()


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize("steps", [1, 4, 5])
def test_resumed_frames_are_those_of_an_unbroken_run(pipe, tmp_path, solver, steps):
    path, common = tmp_path / "run.safetensors", {"seed": 3, "solver": solver, "num_inference_steps": 6}
    stop_after(pipe, steps, path, num_videos_per_prompt=2, **common)
    resumed = pipe(resume_from=path)
    unbroken = pipe(PROMPT, num_videos_per_prompt=2, **common)
    assert np.array_equal(resumed.frames, unbroken.frames) and torch.equal(resumed.latents, unbroken.latents)
    assert resumed.seeds == unbroken.seeds == [3, 4] and resumed.settings == unbroken.settings
    assert resumed.tokens == unbroken.tokens


KILLED = """
import os, signal, sys
from hunyuan_video import HunyuanVideoPipeline
folder, path, step, phase = sys.argv[1:]
pipe = HunyuanVideoPipeline.from_pretrained(folder, device="cpu")
real = os.replace
saves = []
def replace(source, target):
    saves.append(target)
    if len(saves) == int(step) + 1:
        if phase == "after":
            real(source, target)
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
pipe("a red star moves left", seed=3, checkpoint_to=path)
"""


@pytest.mark.parametrize("step, phase, expected", [(2, "before", 1), (2, "after", 2)])
def test_sigkill_while_saving_then_resume(pipe, checkpoint, tmp_path, step, phase, expected):
    """Killed with the state of `step` written but not yet renamed ("before"), or just renamed ("after")."""
    path = tmp_path / "run.safetensors"
    command = [sys.executable, "-c", KILLED, str(checkpoint), str(path), str(step), phase]
    assert subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == -signal.SIGKILL
    assert SamplingState.load(path).step == expected
    resumed = pipe(resume_from=path, checkpoint_to=path)
    assert np.array_equal(resumed.frames, pipe(PROMPT, seed=3).frames)
    assert SamplingState.load(path).complete
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # the killed run's temporary file is gone


def test_a_complete_state_decodes_without_sampling(pipe, tmp_path):
    path = tmp_path / "run.safetensors"
    out = pipe(PROMPT, seed=1, checkpoint_to=path, output_type="latent")
    calls = []
    handle = pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    decoded = pipe(resume_from=path).frames
    handle.remove()
    assert not calls and np.array_equal(decoded, pipe.decode(out.latents))


def test_resuming_needs_neither_prompt_nor_text_encoders(pipe, tmp_path):
    path = tmp_path / "run.safetensors"
    stop_after(pipe, 2, path, seed=1)
    bare = HunyuanVideoPipeline(pipe.transformer, pipe.vae, defaults=pipe.defaults)
    assert np.array_equal(bare(resume_from=path).frames, pipe(PROMPT, seed=1).frames)
    assert np.array_equal(bare(PROMPT, resume_from=path, seed=1, height=32).frames, pipe(PROMPT, seed=1).frames)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"height": 64}, r"other settings \(height: 32 -> 64\)"),
        ({"seed": 2}, r"other settings \(seeds: \[1\] -> \[2\]\)"),
        ({"prompt": "a blue circle"}, "other settings .*prompts"),
        ({"negative_prompt": "a blue circle"}, "other settings .*negative_prompts"),
        ({"solver": "heun"}, "other settings .*solver"),
    ],
)
def test_other_settings_are_refused(pipe, tmp_path, arguments, message):
    path = tmp_path / "run.safetensors"
    stop_after(pipe, 1, path, seed=1)
    with pytest.raises(UserError, match=message):
        pipe(resume_from=path, **arguments)


def test_arguments_the_state_holds_are_refused(pipe, tmp_path):
    path = tmp_path / "run.safetensors"
    stop_after(pipe, 1, path, seed=1)
    with pytest.raises(ArgumentError, match="leave latents out"):
        pipe(resume_from=path, latents=torch.zeros(1, 16, 2, 4, 6))


def test_another_model_is_refused(pipe, tmp_path):
    path = tmp_path / "run.safetensors"
    stop_after(pipe, 1, path, seed=1)
    other = HunyuanVideoPipeline.from_pretrained(write_random_checkpoint(tmp_path / "other", seed=1), device="cpu")
    with pytest.raises(UserError, match="cannot resume with another transformer"):
        other(resume_from=path)
    half = HunyuanVideoPipeline.from_pretrained(tmp_path / "other", device="cpu", dtype=torch.bfloat16)
    assert half.fingerprints()["transformer"] != other.fingerprints()["transformer"]


def test_fingerprint_sees_one_changed_value_of_a_small_weight():
    linear = torch.nn.Linear(4, 4)
    before = fingerprint(linear)
    with torch.no_grad():
        linear.weight[3, 3] += 1e-6
    assert fingerprint(linear) != before


@pytest.mark.parametrize("kind", ["missing", "text", "truncated", "foreign"])
def test_unreadable_states_are_refused_in_one_line(pipe, tmp_path, kind):
    path = tmp_path / "run.safetensors"
    if kind == "text":
        path.write_text("hello")
    elif kind == "truncated":
        stop_after(pipe, 1, path, seed=1)
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "foreign":
        save_file({"latents": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="start the run without resuming") as caught:
        pipe(resume_from=path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_state_in_an_unwritable_place_fails_before_the_first_step(pipe, tmp_path):
    calls = []
    handle = pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(UserError, match="cannot write .*absent does not exist"):
        pipe(PROMPT, checkpoint_to=tmp_path / "absent" / "run.safetensors")
    handle.remove()
    assert not calls
