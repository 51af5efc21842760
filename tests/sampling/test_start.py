"""Starts (video-to-video, image-to-image) and own noise levels: what a run makes of them, resumed, refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hunyuan_video import ArgumentError, HunyuanVideoPipeline, UserError
from hunyuan_video.data.toyworld import WORLDS, render
from hunyuan_video.flow import SOLVERS, FlowSchedule
from hunyuan_video.media.pixels import to_unit
from hunyuan_video.rules import Levels
from hunyuan_video.sampling import save_video
from hunyuan_video.sampling.request import SamplingDefaults, as_arguments, resolve_settings, steps_to_run
from hunyuan_video.sampling.resume_state import SamplingState

PROMPT = "a red star moves left"
LEVELS = (0.9, 0.75, 0.5, 0.2)


@pytest.fixture(scope="module")
def start():  # uint8 [5, 32, 48, 3], the checkpoint's size
    return np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), np.uint8)


def first_latents(pipe, **given) -> torch.Tensor:
    return pipe.stream(PROMPT, seed=1, output_type="latent", **given).state.latents


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 4), (0.99, 3), (0.5, 2), (0.25, 1)])
def test_a_start_is_mixed_with_noise_at_the_level_of_the_first_step(pipe, start, strength, steps):
    clean = pipe.vae.encode(to_unit(torch.from_numpy(start)[None])).mode() * pipe.vae.config.scaling_factor
    noise = torch.randn((1, *clean.shape[1:]), generator=torch.Generator().manual_seed(1))
    level = FlowSchedule(4, 3.0).sigmas[4 - steps]
    mixed = (1 - level) * clean + level * noise
    stream = pipe.stream(PROMPT, seed=1, output_type="latent", video=start, strength=strength)
    assert torch.allclose(stream.state.latents, mixed, rtol=1e-5, atol=1e-6)
    seen = [event.step for event in stream if hasattr(event, "step")]
    assert seen == list(range(1, steps + 1)) and stream.state.total == steps


def test_all_of_the_steps_keep_nothing_of_the_start(pipe, start):
    made_anew = pipe(PROMPT, seed=1, video=start, strength=1.0)
    assert torch.equal(made_anew.latents, pipe(PROMPT, seed=1).latents)
    assert made_anew.settings["strength"] == 1.0
    assert "strength" not in pipe(PROMPT, seed=1, output_type="latent").settings


def test_few_of_the_steps_stay_near_the_start():
    pipe = HunyuanVideoPipeline.from_pretrained("tiny", device="cpu", adapter="none")
    other = render([WORLDS["narrow"].scene(1, seed=4242)], num_frames=17)[0].numpy()
    common = {"seed": 7, "video": other, "sigmas": [1, 0.7, 0.4, 0.1], "true_cfg_scale": 1.0}
    near, far = (
        pipe("a large yellow circle moves right on a dark teal background", strength=strength, **common).frames[0]
        for strength in (0.25, 1.0)
    )
    distances = [np.abs(frames.astype(float) - other).mean() for frames in (near, far)]
    assert 2 * distances[0] < distances[1]


def test_every_form_of_a_start_gives_the_same_video(pipe, start, tmp_path):
    save_video(tmp_path / "frames.png", start[:1], fps=8)
    forms = [start, torch.from_numpy(start), list(start), [Image.fromarray(frame) for frame in start], [start]]
    forms += [np.concatenate([start, start])]  # frames beyond the wanted ones are not used
    made = [first_latents(pipe, video=form) for form in forms]
    assert all(torch.equal(made[0], other) for other in made)
    still = [first_latents(pipe, video=form) for form in (start[0], np.stack([start[0]] * 5), tmp_path / "frames.png")]
    assert torch.equal(still[0], still[1]) and torch.equal(still[0], still[2])
    assert not torch.equal(still[0], made[0])


def test_a_file_is_read_at_the_checkpoints_rate(pipe, start, tmp_path):
    twice = np.repeat(start, 2, axis=0)
    for name, frames, fps in (("same.apng", start, 8), ("fast.apng", twice, 16)):
        save_video(tmp_path / name, frames, fps=fps)
        assert torch.equal(first_latents(pipe, video=tmp_path / name), first_latents(pipe, video=start))


def test_a_picture_from_a_picture(pipe, start):
    one = pipe(PROMPT, seed=1, video=start, strength=0.5, num_frames=1)
    assert torch.equal(one.latents, pipe(PROMPT, seed=1, video=start[0], strength=0.5, num_frames=1).latents)
    assert one.frames.shape == (1, 1, 32, 48, 3)


def test_a_start_for_each_prompt_and_all_their_videos(pipe, start):
    prompts = [PROMPT, "a blue circle"]
    common = {"strength": 0.5, "output_type": "latent"}
    both = pipe(prompts, seed=1, video=[start, 255 - start], num_videos_per_prompt=2, **common)
    assert torch.equal(both.latents[3:], pipe(prompts[1], seed=2, video=255 - start, **common).latents)
    batched = pipe(
        prompts, seed=1, video=np.stack([start, 255 - start]), num_videos_per_prompt=2, batch_size=4, **common
    )
    torch.testing.assert_close(batched.latents, both.latents, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("solver", "dtype"), [("euler", torch.bfloat16), *((name, torch.float32) for name in SOLVERS)])
def test_a_resumed_run_is_the_unbroken_one(checkpoint, start, tmp_path, solver, dtype):
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu", dtype=dtype)
    given = {"sigmas": LEVELS, "solver": solver, "seed": 1, "output_type": "latent"}
    stream = pipe.stream(PROMPT, video=start, strength=0.75, checkpoint_to=tmp_path / "state", **given)
    next(stream)
    stream.close()
    whole = pipe(PROMPT, video=start, strength=0.75, **given)
    state = SamplingState.load(tmp_path / "state")
    assert (state.step, state.total, state.settings.sigmas) == (1, 3, (*LEVELS, 0.0))
    same = {"sigmas": "0.9,0.75,0.5,0.2,0", "strength": 0.75}
    resumed = pipe(resume_from=tmp_path / "state", output_type="latent", **same)
    assert torch.equal(resumed.latents, whole.latents) and resumed.settings == whole.settings
    with pytest.raises(UserError, match="cannot resume with other settings .sigmas"):
        pipe(resume_from=tmp_path / "state", sigmas=(0.9, 0.5))
    with pytest.raises(UserError, match="cannot resume with other settings .strength: 0.75 -> 0.5"):
        pipe(resume_from=tmp_path / "state", strength=0.5)
    with pytest.raises(ArgumentError, match="resume_from already holds what video would set"):
        pipe(resume_from=tmp_path / "state", video=start)


def test_own_levels_are_those_the_model_sees(pipe):
    seen = []
    pipe(
        PROMPT, seed=1, sigmas=torch.tensor(LEVELS), true_cfg_scale=1.0, output_type="latent",
        callback_on_step_end=lambda pipe, step, timestep, latents: seen.append(float(timestep)),
    )  # fmt: skip
    np.testing.assert_allclose(seen, [900, 750, 500, 200], rtol=1e-6)
    usual = FlowSchedule(4, 3.0).sigmas.tolist()
    given = pipe(PROMPT, seed=1, sigmas=usual, output_type="latent")
    assert torch.equal(given.latents, pipe(PROMPT, seed=1, output_type="latent").latents)
    assert given.settings["sigmas"] == usual and "flow_shift" not in given.settings
    again = pipe(PROMPT, seed=1, output_type="latent", **as_arguments(_of_the_run(given.settings)))
    assert torch.equal(again.latents, given.latents)


def _of_the_run(used):
    return {name: value for name, value in used.items() if name not in ("vae_mode", "guidance_scale")}


def test_a_state_of_before_has_neither(pipe, tmp_path):
    stream = pipe.stream(PROMPT, seed=1, checkpoint_to=tmp_path / "state", output_type="latent")
    next(stream)
    names = ("sigmas", "strength")
    real = stream.state.settings.as_dict()
    older = SimpleNamespace(as_dict=lambda: {name: value for name, value in real.items() if name not in names}, steps=4)
    stream.state.settings = older
    stream.state.save(tmp_path / "state")
    state = SamplingState.load(tmp_path / "state")
    assert (state.settings.sigmas, state.settings.strength, state.total) == (None, None, 4)
    resumed = pipe(resume_from=tmp_path / "state", output_type="latent")
    assert torch.equal(resumed.latents, pipe(PROMPT, seed=1, output_type="latent").latents)


@settings(max_examples=50, deadline=None)
@given(steps=st.integers(1, 60), strength=st.floats(0.01, 1.0))
def test_the_number_of_steps_is_diffusers(steps, strength):
    diffusers = pytest.importorskip("diffusers")
    peer = SimpleNamespace(scheduler=SimpleNamespace(order=1))
    get_timesteps = diffusers.WanVideoToVideoPipeline.get_timesteps
    timesteps, count = get_timesteps(peer, steps, list(range(steps)), strength, "cpu")
    assert steps_to_run(steps, strength) == count == len(timesteps)


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=8))
def test_levels_pass_or_say_what_is_wrong(levels):
    falling = all(a > b for a, b in zip(np.float32(levels), np.float32(levels)[1:], strict=False))
    for form in (levels, np.array(levels), ",".join(map(repr, levels)), [*levels, 0]):
        if falling:
            assert Levels(10).check("sigmas", form) == (*levels, 0.0)
            continue
        with pytest.raises(ArgumentError, match="sigmas must fall from noise to data, and level"):
            Levels(10).check("sigmas", form)


def test_levels_of_a_schedule():
    with pytest.raises(ValueError, match="must fall from at most 1 to 0"):
        FlowSchedule.of_levels([0.5, 0.7, 0])
    last = FlowSchedule(4, 7.0).last(2)
    torch.testing.assert_close(last.sigmas, torch.tensor([7 / 8, 0.7, 0]))
    assert len(last) == 2 and len(last.timesteps) == 2
    with pytest.raises(ValueError, match="steps must be in"):
        last.last(3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigmas": [1.5, 0.5]}, "sigmas: level 1 must be more than 0 and at most 1, got 1.5"),
        ({"sigmas": []}, "sigmas must be 1 to 1000 noise levels above 0, got 0"),
        ({"sigmas": [0.0]}, "sigmas must be 1 to 1000 noise levels above 0, got 0"),
        ({"sigmas": [1, 0.0, 0.0]}, "sigmas: level 2 must be more than 0"),
        ({"sigmas": [0.5, 0.9]}, r"sigmas must fall .* level 2 \(0.9\) is not below the one before \(0.5\)"),
        ({"sigmas": [float("nan")]}, "sigmas: level 1 must be a finite number, got nan"),
        ({"sigmas": 0.5}, "sigmas must be a list of noise levels, got 0.5"),
        ({"sigmas": "1,half"}, "sigmas must be numbers with commas between them, got '1,half'"),
        ({"sigmas": [0.5], "num_inference_steps": 1}, "give either them or num_inference_steps"),
        ({"sigmas": [0.5], "flow_shift": 3.0}, "give either them or flow_shift"),
        ({"strength": 0.5}, "strength says how much of a start is made anew, and none was given"),
        ({"video": "x.mp4", "strength": 0}, "strength must be more than 0 and at most 1, got 0"),
        ({"video": "x.mp4", "strength": 1.1}, "strength must be more than 0 and at most 1, got 1.1"),
        ({"video": "x.mp4", "strength": 0.2, "num_inference_steps": 4}, "0.2 of 4 steps leaves none .* give .* 0.25"),
    ],
)  # fmt: skip
def test_wrong_settings(pipe, given, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        resolve_settings(given, SamplingDefaults(), pipe.grid)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("video", "error", "message"),
    [
        ("nowhere.mp4", UserError, "nowhere.mp4: not a readable video or picture .No such file"),
        (3, ArgumentError, "video must be a file, a PIL image .* got int"),
        ([], ArgumentError, "video must be a file, .* got list"),
        (np.zeros((5, 32, 48, 3)), ArgumentError, r"got float64 \[5, 32, 48, 3\]"),
        (np.zeros((3, 32, 48, 3), np.uint8), ArgumentError, "video has 3 frames and num_frames is 5; lower it to 1"),
        ([np.zeros((5, 32, 48, 3), np.uint8)] * 2, ArgumentError, "video has 2 entries for 1 prompts"),
    ],
)
def test_wrong_starts(pipe, video, error, message):
    with pytest.raises(error, match=message) as caught:
        pipe(PROMPT, seed=1, video=video)
    assert "\n" not in str(caught.value)


def test_a_short_file_says_how_many_frames_it_has(pipe, start, tmp_path):
    save_video(tmp_path / "short.gif", start[:3], fps=8)
    with pytest.raises(ArgumentError, match="video has 3 frames at 8 per second and num_frames is 5; lower it to 1"):
        pipe(PROMPT, seed=1, video=tmp_path / "short.gif")
