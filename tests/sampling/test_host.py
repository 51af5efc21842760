"""The program around a run: its defaults and modes change nothing of ours, and ours nothing of it."""

from __future__ import annotations

import contextlib
import locale
import random
import warnings

import numpy as np
import pytest
import torch

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.data.toyworld import WORLDS, render
from hunyuan_video.flow import FlowSchedule

PROMPT = "a red star moves left"
ARGUMENTS = {"seed": 1, "num_frames": 5, "num_inference_steps": 2, "height": 32, "width": 32}


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def errors_of_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextlib.contextmanager
def decimal_commas():
    before = locale.setlocale(locale.LC_ALL)
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


MODES = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "another device": lambda: default_device("meta"),
    "a device's context": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "gradients": torch.enable_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": deterministic,
    "errors of warnings": errors_of_warnings,
    "decimal commas": decimal_commas,
}


def state():
    """State that a program may have set, and its random numbers."""
    return (
        *(torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(), torch.get_num_threads()),
        *(torch.is_autocast_enabled("cpu"), torch.are_deterministic_algorithms_enabled(), list(warnings.filters)),
        *(locale.setlocale(locale.LC_ALL), torch.get_rng_state().tolist(), random.getstate()),
        np.random.get_state()[1].tolist(),  # noqa: NPY002 what the program itself may use
    )


def sampled(checkpoint):
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")
    out = pipe(PROMPT, true_cfg_scale=2.0, **ARGUMENTS)
    exact = pipe.decode(out.latents, vae_mode="exact")
    return out.latents, out.frames, exact, np.asarray(pipe.preview(out.latents))


@pytest.fixture(scope="module")
def wanted(checkpoint):
    return sampled(checkpoint)


@pytest.mark.parametrize("mode", MODES)
def test_a_run_is_the_same_and_leaves_no_trace(checkpoint, wanted, mode):
    with MODES[mode]():
        before = state()
        result = sampled(checkpoint)
        assert state() == before
    for got, want in zip(result, wanted, strict=True):
        assert np.array_equal(np.asarray(got), np.asarray(want))


@pytest.mark.parametrize("mode", ["float64", "bfloat16", "another device"])
def test_a_loaded_pipeline_too(checkpoint, wanted, mode):
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")
    with MODES[mode]():
        out = pipe(PROMPT, true_cfg_scale=2.0, **ARGUMENTS)
    assert torch.equal(out.latents, wanted[0]) and np.array_equal(out.frames, wanted[1])


@pytest.mark.parametrize("solver", ["lcm", "ab2", "heun"])
def test_every_solver(checkpoint, solver):
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")
    arguments = {**ARGUMENTS, "solver": solver, "output_type": "latent", "true_cfg_scale": 1.0}
    want = pipe(PROMPT, **arguments).latents
    with default_dtype(torch.float64), default_device("meta"):
        assert torch.equal(pipe(PROMPT, **arguments).latents, want)


def test_autocast_is_the_callers_again_at_each_step(checkpoint):
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")
    with torch.autocast("cpu", torch.bfloat16):
        for _ in pipe.stream(PROMPT, **ARGUMENTS):
            assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("mode", ["float64", "bfloat16", "another device"])
def test_schedules_and_the_bundled_world(mode):
    scenes = WORLDS["narrow"].scenes(2, seed=3)
    want = render(scenes, 5, 16), FlowSchedule(5, 7.0).sigmas
    with MODES[mode]():
        result = render(WORLDS["narrow"].scenes(2, seed=3), 5, 16), FlowSchedule(5, 7.0).sigmas
    assert all(np.array_equal(np.asarray(got), np.asarray(value)) for got, value in zip(result, want, strict=True))
