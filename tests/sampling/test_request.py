"""Checks before any work: each mistake is one line that names the argument, its value and what works."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hunyuan_video import ArgumentError, HunyuanVideoPipeline, PromptEmbeds
from hunyuan_video.cli.entry import build_parser
from hunyuan_video.models.grid import Grid
from hunyuan_video.rules import Choice, Count, Flag, Levels, Method, Number
from hunyuan_video.sampling.noise import draw_noise, seeded_generators, video_seeds
from hunyuan_video.sampling.request import (
    ARGUMENTS,
    SampleRequest,
    SamplingDefaults,
    check_prompts,
    nearest_valid,
    resolve_settings,
)

GRID = Grid()


def resolve(**given):
    return resolve_settings(given, SamplingDefaults(), GRID)


def test_numpy_numbers_are_numbers():
    settings = resolve(height=np.int64(64), flow_shift=np.float32(5))
    assert json.dumps(settings.as_dict()) and (settings.height, settings.flow_shift) == (64, 5.0)
    assert video_seeds(np.int64(3), 1, 1) == [3]


def test_released_models_defaults():
    settings = resolve()
    assert (settings.height, settings.width, settings.num_frames) == (720, 1280, 129)
    assert (settings.num_inference_steps, settings.guidance_scale, settings.true_cfg_scale) == (50, 6.0, 1.0)
    assert (settings.flow_shift, settings.solver, settings.num_videos_per_prompt) == (7.0, "euler", 1)
    assert resolve(num_inference_steps=8).flow_shift == 17.0
    assert resolve(num_inference_steps=8, flow_shift=5).flow_shift == 5.0


@given(size=st.integers(-50, 3000), frames=st.integers(-50, 300))
def test_sizes_pass_or_name_the_nearest_valid_ones(size, frames):
    valid = size > 0 and size % 16 == 0 and frames > 0 and frames % 4 == 1
    if valid:
        settings = resolve(height=size, width=32, num_frames=frames)
        channels, t, h, w = GRID.latent_shape(frames, size, 32)
        assert (settings.height, settings.num_frames) == (size, frames)
        assert (channels, 4 * (t - 1) + 1, 8 * h, 8 * w) == (16, frames, size, 32)
        return
    with pytest.raises(ArgumentError) as caught:
        resolve(height=size, width=32, num_frames=frames)
    text = str(caught.value)
    assert "\n" not in text and (f"got {size}" in text or f"got {frames}" in text)
    if nearest := re.search(r"nearest: (.*)", text):
        for number in map(int, nearest[1].split(" or ")):
            name = "height" if text.startswith("height") else "num_frames"
            resolve(**{"height": 32, "width": 32, "num_frames": 5, name: number})


@given(value=st.integers(1, 10**6), step=st.integers(1, 64), offset=st.integers(0, 1))
def test_nearest_valid_brackets_the_value(value, step, offset):
    numbers = [int(n) for n in nearest_valid(value, step, offset, least=step + offset).split(" or ")]
    assert all(number % step == offset % step and number >= step + offset for number in numbers)
    assert min(abs(number - value) for number in numbers) <= step + offset


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "given, message",
    [
        ({"height": 100}, "height must be a multiple of 16 pixels, got 100; nearest: 96 or 112"),
        ({"width": 8}, "width must be a multiple of 16 pixels, got 8; nearest: 16"),
        ({"num_frames": 16}, r"num_frames must be 4k \+ 1, got 16; nearest: 13 or 17"),
        ({"num_frames": 0}, "num_frames must be between 1 and"),
        ({"height": -16}, "height must be between 1 and"),
        ({"height": 64.0}, "height must be a whole number, got 64.0"),
        ({"height": "64"}, "height must be a whole number, got '64'"),
        ({"height": True}, "height must be a whole number, got True"),
        ({"height": np.float32(64)}, "height must be a whole number"),
        ({"height": 65536, "width": 65536}, "video tokens, more than 2097152; lower"),
        ({"num_inference_steps": 0}, "num_inference_steps must be between 1 and 1000, got 0"),
        ({"num_inference_steps": 2000}, "num_inference_steps must be between 1 and 1000, got 2000"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt must be between 1"),
        ({"guidance_scale": NAN}, "guidance_scale must be a finite number, got nan"),
        ({"guidance_scale": -1}, "guidance_scale must be at least 0, got -1"),
        ({"true_cfg_scale": 0.5}, "true_cfg_scale must be at least 1, got 0.5 .*switches"),
        ({"true_cfg_scale": INF}, "true_cfg_scale must be a finite number, got inf"),
        ({"guidance_rescale": 1.5}, "guidance_rescale must be at least 0 and at most 1, got 1.5"),
        ({"flow_shift": 0}, "flow_shift must be more than 0, got 0"),
        ({"flow_shift": NAN}, "flow_shift must be a finite number"),
        ({"flow_shift": "7"}, "flow_shift must be a number, got '7'"),
        ({"solver": "ddim"}, "solver must be one of euler, .*got 'ddim'"),
    ],
)
def test_wrong_settings(given, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        resolve(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prompt", ["", "  ", ["a star", ""], [], None, 5, ["a star", None]])
def test_wrong_prompts(prompt):
    with pytest.raises(ArgumentError, match="^prompt "):
        check_prompts("prompt", prompt)


def test_prompts_are_stripped_and_negative_ones_may_be_empty():
    assert check_prompts("prompt", " a star\n") == ["a star"]
    assert check_prompts("negative_prompt", "") == [""]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "give either prompt or prompt_embeds"),
        ({"prompt": "a star", "seed": -1}, "seed must be between 0 and"),
        ({"prompt": "a star", "seed": 2**64}, r"seed must be between 0 and 2\*\*64 - 1, got 18446744073709551616"),
        ({"prompt": "a star", "progress": 1}, "progress must be True or False, got 1"),
        ({"prompt": "a star", "seed": 1.5}, "seed must be a whole number, got 1.5"),
        (
            {"prompt": "a star", "seed": [1, 2, 3]},
            r"seed has 3 entries; give one number, 1 \(prompts\) or 1 \(videos\)",
        ),
        (
            {"prompt": "a star", "seed": 1, "latents": torch.zeros(1, 16, 2, 4, 6)},
            "only one of seed, generator and latents",
        ),
        ({"prompt": "a star", "latents": torch.zeros(1, 16, 2, 4, 5)}, r"latents must be \[1, 16, 2, 4, 6\] .* got"),
        ({"prompt": "a star", "latents": torch.full((1, 16, 2, 4, 6), NAN)}, "latents contain NaN"),
        ({"prompt": "a star", "generator": [torch.Generator()] * 2}, "generator has 2 entries for 1 videos"),
        ({"prompt": "a star", "negative_prompt": ["a", "b"]}, "negative_prompt has 2 entries for 1 prompts"),
        ({"prompt": ["a star"] * 1025}, "more than 1024; split"),
        ({"prompt": "a star", "output_type": "mp4"}, "output_type must be one of np, pil, pt, latent, got 'mp4'"),
        ({"prompt": "a star", "vae_mode": "fast"}, "vae_mode must be one of"),
        ({"prompt": "a star", "batch_size": 0}, "batch_size must be between 1"),
        ({"prompt": "a star", "checkpoint_every": 0}, "checkpoint_every must be between 1"),
        ({"prompt_embeds": torch.zeros(1)}, "must be a PromptEmbeds.*got Tensor"),
    ],
)
def test_wrong_calls(pipe, arguments, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        pipe(**arguments)
    assert "\n" not in str(caught.value)


def embeds(text=(1, 4, 16), mask=(1, 1, 0, 0), pooled=(1, 16), fill=0.0) -> PromptEmbeds:
    return PromptEmbeds(torch.full(text, fill), torch.tensor([mask]), torch.zeros(pooled))


@pytest.mark.parametrize(
    "wrong, message",
    [
        (embeds(text=(1, 4, 15)), r"prompt_embeds.text must be \[B, L, 16\] for this model, got \[1, 4, 15\]"),
        (embeds(mask=(1, 1)), r"prompt_embeds.mask must be \[1, 4\], got \[1, 2\]"),
        (embeds(mask=(1, 0, 1, 0)), "must mark a prefix"),
        (embeds(mask=(0, 0, 0, 0)), "a row without a valid token"),
        (embeds(pooled=(2, 16)), r"prompt_embeds.pooled must be \[1, 16\], got \[2, 16\]"),
        (embeds(fill=NAN), "NaN or infinity"),
    ],
)
def test_wrong_embeddings(pipe, wrong, message):
    with pytest.raises(ArgumentError, match=message):
        pipe(prompt_embeds=wrong, true_cfg_scale=1.0)


@given(seed=st.integers(0, 2**40), prompts=st.integers(1, 4), videos=st.integers(1, 4))
def test_seed_rules(seed, prompts, videos):
    each = [seed + i for i in range(videos)]
    assert video_seeds(seed, prompts, videos) == each * prompts
    starts = [seed + 100 * p for p in range(prompts)]
    assert video_seeds(starts, prompts, videos) == [start + i for start in starts for i in range(videos)]
    exact = list(range(prompts * videos))
    if videos > 1:
        assert video_seeds(exact, prompts, videos) == exact


def test_noise_is_the_seeds_own_stream():
    noise = draw_noise(seeded_generators([3, 4]), (16, 2, 4, 6))
    assert noise.dtype == torch.float32
    for row, seed in enumerate((3, 4)):
        assert torch.equal(noise[row], torch.randn((1, 16, 2, 4, 6), generator=torch.Generator().manual_seed(seed))[0])


def signature(method) -> list[inspect.Parameter]:
    return list(inspect.signature(method).parameters.values())[1:]  # without self


def test_the_pipeline_has_the_arguments_of_the_request():
    """An argument is declared in two places, and both say the same: name, kind, type and default."""
    declared = {field.name: field for field in dataclasses.fields(SampleRequest)}
    parameters = {parameter.name: parameter for parameter in signature(HunyuanVideoPipeline.__call__)}
    assert list(parameters) == list(declared)
    for name, field in declared.items():
        parameter = parameters[name]
        assert field.type in (parameter.annotation, "Any") and field.default is parameter.default, name
        assert (parameter.kind is inspect.Parameter.KEYWORD_ONLY) == field.kw_only, name


def test_a_stream_has_the_signature_of_a_call(pipe):
    assert signature(HunyuanVideoPipeline.stream) == signature(HunyuanVideoPipeline.__call__)
    assert inspect.signature(HunyuanVideoPipeline.stream).return_annotation == "SampleStream"
    with pytest.raises(TypeError, match="unexpected keyword argument 'heigth'"):
        pipe.stream("a star", heigth=32)


@pytest.mark.parametrize("name", [name for name, known in ARGUMENTS.items() if known.flag])
def test_every_flag_reaches_its_argument(name):
    known = ARGUMENTS[name]
    assert known.help and known.rule is None or known.rule.type is known.flag
    choices = known.rule.choices if isinstance(known.rule, Choice) else ["3"]
    flag = f"--{(known.called or name).replace('_', '-')}"
    assert getattr(build_parser().parse_args(["sample", "a star", flag, choices[-1]]), name) == known.flag(choices[-1])
    assert getattr(build_parser().parse_args(["sample", "a star"]), name) is None


@pytest.mark.parametrize("name", [name for name, known in ARGUMENTS.items() if known.rule])
def test_every_rule_accepts_its_ends_and_refuses_what_is_beyond(name):
    rule = ARGUMENTS[name].rule
    if isinstance(rule, Count):
        right, wrong = [1, rule.most], [0, rule.most + 1, 1.5, "1", True]
    elif isinstance(rule, Number):
        right = [0.5 if rule.above else rule.low, *([rule.high] if rule.high < INF else [])]
        wrong = [rule.low if rule.above else rule.low - 1, rule.high + 1, "1", True]
    elif isinstance(rule, Flag):
        right, wrong = [True, False], [None, 1, "True"]
    elif isinstance(rule, Levels):
        right, wrong = [(1.0, 0.0), (0.9, 0.5, 0.0)], [None, (), "", (0.0,), (0.5, 0.9), 0.5]
    elif isinstance(rule, Method):
        right = [f"{word}:{number!r}" for word, number in rule.usual] + [f"{rule.usual[0][0]}:{rule.high!r}"]
        wrong = [
            "",
            None,
            "other",
            0.5,
            f"{rule.off}:1.0",
            *(f"{rule.usual[0][0]}:{end}" for end in ("", "x", "1.01", "nan", "-1")),
        ]
        assert rule.check(name, rule.off) is None and rule.check(name, rule.usual[0][0]) == right[0]
    else:
        right, wrong = rule.choices, ["", None, "other"]
    for value in right:
        assert rule.check(name, value) == value
    for value in wrong:
        with pytest.raises(ArgumentError, match=f"^{name}(:.*)? must (be|fall) "):
            rule.check(name, value)


def test_defaults_are_the_stored_arguments_and_the_rate():
    names = [field.name for field in dataclasses.fields(SamplingDefaults)]
    assert names == [name for name, known in ARGUMENTS.items() if known.stored] + ["fps"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamplingDefaults().height = 5
