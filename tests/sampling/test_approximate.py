"""Approximate modes of a run: exact where nothing is skipped, told, resumed bit for bit, refused where impossible."""

from __future__ import annotations

import warnings

import pytest
import torch

from hunyuan_video import ArgumentError, HunyuanVideoPipeline, UserError
from hunyuan_video.checkpoints.configs import read_configs
from hunyuan_video.cli.entry import main
from hunyuan_video.errors import ApproximateMode, IneffectiveArgument, Notice
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.transformer import step_cache
from hunyuan_video.models.transformer.rope import rope_table
from hunyuan_video.planning.run_plan import plan_lines
from hunyuan_video.sampling import approximate
from hunyuan_video.sampling.planned import plan_sampling
from hunyuan_video.sampling.resume_state import SamplingState

PROMPT = "a red star moves left"
LEVELS = (1.0, 0.999, 0.997, 0.996, 0.994, 0.993)  # so near that blocks change little
RUN = {"seed": 3, "sigmas": LEVELS, "output_type": "latent"}


def made(pipe, **arguments):
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always", Notice)
        out = pipe(PROMPT, **RUN, **arguments)
    return out, [str(notice.message) for notice in notices if issubclass(notice.category, Notice)]


def test_exact_runs_are_what_they_were(pipe):
    plain, lines = made(pipe)
    named, more = made(pipe, cache="off", attention="dense")
    assert torch.equal(plain.latents, named.latents) and plain.settings == named.settings and lines == more == []
    assert "cache" not in plain.settings


def test_a_cache_that_never_hits_changes_no_bit_and_says_so(pipe):
    plain, _ = made(pipe)
    never, (approximation, verdict) = made(pipe, cache="first_block:1e-9")
    assert torch.equal(plain.latents, never.latents) and never.settings["cache"] == "first_block:1e-09"
    assert "differs from the exact run" in approximation and "never hit: the least change was" in verdict


@pytest.mark.parametrize("kind", ["first_block", "linear"])
def test_a_cache_that_always_hits_skips_blocks_and_says_so(pipe, kind, monkeypatch):
    monkeypatch.setattr(step_cache, "relative_change", lambda *_: torch.zeros(1))
    calls = []
    handle = pipe.transformer.single_blocks[-1].register_forward_hook(lambda *_: calls.append(1))
    _, lines = made(pipe, cache=f"{kind}:1", true_cfg_scale=1.0)
    handle.remove()
    assert len(calls) == 2 and lines[-1].startswith(f"cache {kind}:1.0 always hit, 4 times of 4")  # first and last step
    with pytest.warns(Notice, match="had no effect: of 2 steps none may be skipped"):
        pipe(PROMPT, seed=1, num_inference_steps=2, cache=kind)


def test_lowered_frequencies_are_told_and_used(pipe, monkeypatch):
    """Frequencies of 4 dimensions: periods of 6.3 and 100 latent frames."""
    long = {"num_frames": 21, "height": 32, "width": 32}
    lowered, lines = made(pipe, riflex=1, **long)
    plain, _ = made(pipe, **long)
    assert any("riflex 1: an approximation" in line for line in lines) and lowered.settings["riflex"] == 1
    assert not torch.equal(lowered.latents, plain.latents)
    with pytest.warns(IneffectiveArgument, match="riflex 1 has no effect up to 17 frames"):
        assert torch.equal(pipe(PROMPT, riflex=1, num_frames=17, **RUN).latents, made(pipe, num_frames=17)[0].latents)
    with pytest.raises(ArgumentError, match="riflex: this model has 2 frequencies in time, got 3"):
        pipe(PROMPT, riflex=3)

    def rope(self, grid, device):
        return rope_table(grid, dims=self.config.rope_dims, theta=self.config.rope_theta, lowered=1)

    monkeypatch.setattr(HunyuanVideoTransformer, "rope", rope)
    assert torch.equal(made(pipe, **long)[0].latents, lowered.latents)


MODES = [{"cache": "first_block:0.4"}, {"cache": "linear:0.4"}, {"attention": "sliding_tile"}]


@pytest.mark.parametrize(
    ("mode", "solver"),
    [(MODES[0], "euler"), (MODES[1], "heun"), (MODES[2], "ab2"), (MODES[1] | MODES[2], "euler")],
    ids=str,
)
def test_a_run_resumes_bit_for_bit(pipe, tmp_path, mode, solver):
    path, common = tmp_path / "run.safetensors", {"num_videos_per_prompt": 2, "solver": solver, **mode}
    unbroken, lines = made(pipe, **common)
    assert any("an approximation" in line for line in lines)
    for steps in (2, 4):
        stream = pipe.stream(PROMPT, checkpoint_to=path, **RUN, **common)
        for event in stream:
            if event.step == steps:
                stream.close()
        if "cache" in mode and solver == "euler":
            assert SamplingState.load(path).cache["counts"][1] > 0  # hits
        with pytest.warns(ApproximateMode):
            resumed = pipe(resume_from=path, output_type="latent", **mode)
        assert torch.equal(resumed.latents, unbroken.latents) and resumed.settings == unbroken.settings
    for name in mode:
        with pytest.raises(UserError, match=rf"other settings \({name}: .* -> None\)"):
            pipe(resume_from=path, **{name: "off" if name == "cache" else "dense"})


def test_exact_states_resume_without_and_refuse_approximations(pipe, tmp_path):
    path = tmp_path / "run.safetensors"
    next(iter(pipe.stream(PROMPT, checkpoint_to=path, **RUN)))
    resumed = pipe(resume_from=path, cache="off", attention="dense", output_type="latent")
    assert torch.equal(resumed.latents, made(pipe)[0].latents)
    with pytest.raises(UserError, match=r"cannot resume with other settings \(cache: None -> 'first_block:0.06'\)"):
        pipe(resume_from=path, cache="first_block")


def test_a_damaged_cache_is_one_line(pipe, tmp_path):
    path = tmp_path / "run.safetensors"
    stream = pipe.stream(PROMPT, checkpoint_to=path, cache="first_block", **RUN)
    next(stream)
    stream.close()
    state = SamplingState.load(path)
    state.cache["0.added.0"] = state.cache["0.added.0"][:, 1:]
    state.save(path)
    with pytest.raises(UserError, match="the sampling state is damaged"):
        pipe(resume_from=path)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_streamed_blocks_and_batches(pipe, checkpoint, mode):
    streamed = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu", memory="stream")
    assert torch.equal(made(pipe, **mode)[0].latents, made(streamed, **mode)[0].latents)
    several = made(pipe, num_videos_per_prompt=2, **mode)[0].latents
    assert torch.equal(several[:1], made(pipe, **mode)[0].latents)


def test_other_models_and_sizes_are_refused_before_anything(pipe, monkeypatch):
    class Other(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.config, self.dtype = inner, inner.config, inner.dtype

    other = HunyuanVideoPipeline(Other(pipe.transformer), pipe.vae, pipe.text_encoder, pipe.clip_text_encoder)
    with pytest.raises(ArgumentError, match="cache works on the blocks of this package's transformer"):
        other(PROMPT, cache="first_block")
    monkeypatch.setattr(approximate, "_multiple", lambda _: approximate.GPU_TILE)
    with pytest.raises(
        ArgumentError, match=r"attention: 9 x 12 x 20 tokens .* nearest: \d+ frames of \d+x\d+, or use dense"
    ):
        pipe(PROMPT, attention="sliding_tile", num_frames=33, height=192, width=320)


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("--cache=first_block:0", "more than 0"),
        ("--cache=first_block:7", "at most 1"),
        ("--cache=teacache", "must be off"),
        ("--attention=sliding_tile:-1", "at least 0"),
        ("--cache=linear:", "must be followed by a number"),
    ],
)
def test_wrong_values_are_one_line(checkpoint, capsys, flag, line):
    assert main(["sample", PROMPT, "--model", str(checkpoint), flag]) == 2
    error = capsys.readouterr().err
    assert line in error and len(error.strip().splitlines()) == 1


def test_plans_say_and_count_it(checkpoint):
    sizes = {"height": 96, "width": 96, "num_frames": 17}
    common = {"device": "cpu", "output_type": "latent", "encodes": False}
    exact, first_block, linear = (
        plan_sampling(str(checkpoint), {**sizes, "cache": kind}, **common)
        for kind in (None, "first_block", "linear:0.1")
    )
    tokens = 5 * 6 * 6 * 2  # with classifier-free guidance
    width = read_configs(checkpoint)[1].hidden_size
    more = [plan.stages[2].host_bytes - exact.stages[2].host_bytes for plan in (first_block, linear)]
    assert more == [3 * tokens * width * 4, 4 * tokens * width * 4]
    assert (exact.choices["cache"], linear.choices["cache"]) == (None, "linear:0.1")
    assert (
        "attention sliding_tile:0.5"
        in plan_lines(plan_sampling(str(checkpoint), {**sizes, "attention": "sliding_tile:0.5"}, **common))[1]
    )
