"""Promises of a call: defaults, guidance, batches, seeds, output types, callbacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.random_checkpoint import SAMPLING, write_random_checkpoint

from hunyuan_video import ArgumentError, HunyuanVideoPipeline, PromptEmbeds, UserError
from hunyuan_video.flow import SOLVERS, FlowSchedule, classifier_free_guidance, euler_step

PROMPT = "a red star moves left"


def test_defaults_come_from_the_checkpoint(pipe):
    out = pipe(PROMPT, seed=1)
    assert out.frames.shape == (1, 5, 32, 48, 3) and out.frames.dtype == np.uint8
    assert out.latents.shape == (1, 16, 2, 4, 6) and out.latents.dtype == torch.float32
    for name in ("height", "width", "num_frames", "num_inference_steps", "true_cfg_scale", "flow_shift"):
        assert out.settings[name] == SAMPLING[name]
    assert out.seeds == [1]
    assert (out.tokens["text_encoder"][0].used, out.tokens["text_encoder"][0].limit) == (6, 8)


def test_latents_are_the_guided_euler_solution(pipe):
    """An independent sampling loop: two separate passes per step instead of the doubled batch."""
    out = pipe(PROMPT, "a blue circle", seed=5, true_cfg_scale=2.5, guidance_rescale=0.3, output_type="latent")
    schedule = FlowSchedule(4, SAMPLING["flow_shift"])
    x = torch.randn((1, 16, 2, 4, 6), generator=torch.Generator().manual_seed(5))
    (positive, _), (negative, _) = pipe.encode_prompt(PROMPT), pipe.encode_prompt("a blue circle")
    for i, t in enumerate(schedule.timesteps):
        with torch.no_grad():
            both = [
                pipe.transformer(x, t[None], text=e.text, text_mask=e.mask, pooled_text=e.pooled)
                for e in (positive, negative)
            ]
        x = euler_step(x, classifier_free_guidance(*both, 2.5, 0.3), schedule.sigmas[i], schedule.sigmas[i + 1])
    torch.testing.assert_close(out.latents, x, atol=1e-5, rtol=1e-4)
    assert torch.equal(out.frames, out.latents)


class StraightPaths(torch.nn.Module):
    """A transformer whose velocity leads every noise straight to one fixed video of latents."""

    dtype = torch.float32

    def __init__(self, config, target):
        super().__init__()
        self.config, self.target = config, torch.nn.Parameter(target)

    def forward(self, latents, timestep, **_):
        return (latents - self.target) * 1000 / timestep[:, None, None, None, None]


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_every_solver_follows_straight_paths_to_their_end(pipe, solver):
    target = torch.randn((1, 16, 2, 4, 6), generator=torch.Generator().manual_seed(0))
    straight = HunyuanVideoPipeline(StraightPaths(pipe.transformer.config, target), defaults=pipe.defaults)
    embeds, _ = pipe.encode_prompt(PROMPT)
    common = {"prompt_embeds": embeds, "true_cfg_scale": 1.0, "output_type": "latent", "num_inference_steps": 6}
    out = straight(**common, solver=solver, seed=1)
    torch.testing.assert_close(out.latents, target, atol=1e-5, rtol=1e-5)


def test_a_video_does_not_depend_on_its_batch(pipe):
    prompts = [PROMPT, "a green circle on gray background"]
    together = pipe(prompts, seed=[7, 9], num_videos_per_prompt=2)
    assert together.seeds == [7, 8, 9, 10]
    for row, (prompt, seed) in enumerate(zip([prompts[0]] * 2 + [prompts[1]] * 2, together.seeds, strict=True)):
        alone = pipe(prompt, seed=seed)
        assert torch.equal(alone.latents[0], together.latents[row])
        assert np.array_equal(alone.frames[0], together.frames[row])
    larger = pipe(prompts, seed=[7, 9], num_videos_per_prompt=2, batch_size=3)
    torch.testing.assert_close(larger.latents, together.latents, atol=1e-5, rtol=1e-4)


def test_seeds_and_generators(pipe):
    seeded = pipe(PROMPT, seed=4)
    assert np.array_equal(pipe(PROMPT, generator=torch.Generator().manual_seed(4)).frames, seeded.frames)
    assert not np.array_equal(pipe(PROMPT, seed=5).frames, seeded.frames)
    assert pipe([PROMPT, PROMPT], seed=4, num_videos_per_prompt=2, output_type="latent").seeds == [4, 5, 4, 5]
    random = pipe(PROMPT, output_type="latent")
    assert torch.equal(pipe(PROMPT, seed=random.seeds[0], output_type="latent").latents, random.latents)


def test_embeddings_replace_prompts(pipe):
    (embeds, _), (negative, _) = pipe.encode_prompt(PROMPT), pipe.encode_prompt("")
    given = pipe(prompt_embeds=embeds, negative_prompt_embeds=negative, seed=2)
    assert np.array_equal(given.frames, pipe(PROMPT, seed=2).frames)
    padded = PromptEmbeds(
        torch.nn.functional.pad(embeds.text, (0, 0, 0, 5), value=9.0),
        torch.nn.functional.pad(embeds.mask, (0, 5)),
        embeds.pooled,
    )
    same = pipe(prompt_embeds=padded, negative_prompt_embeds=negative, seed=2)
    torch.testing.assert_close(same.latents, given.latents, atol=1e-5, rtol=1e-4)


def test_output_types_hold_the_same_picture(pipe):
    frames = pipe(PROMPT, seed=3).frames
    video = pipe(PROMPT, seed=3, output_type="pt").frames
    assert video.shape == (1, 3, 5, 32, 48) and video.min() >= 0 and video.max() <= 1
    assert np.array_equal((video * 255).round().to(torch.uint8).permute(0, 2, 3, 4, 1).numpy(), frames)
    images = pipe(PROMPT, seed=3, output_type="pil").frames
    assert len(images) == 1 and len(images[0]) == 5 and np.array_equal(np.asarray(images[0][4]), frames[0, 4])


def test_latents_are_not_clamped_and_decode_apart(pipe):
    out = pipe(PROMPT, seed=3, output_type="latent")
    assert out.frames.abs().max() > 1
    assert np.array_equal(pipe.decode(out.latents), pipe(PROMPT, seed=3).frames)


def test_an_image_is_one_frame_with_its_own_template(pipe):
    out = pipe(PROMPT, num_frames=1, seed=1)
    assert out.frames.shape == (1, 1, 32, 48, 3)
    embeds, _ = pipe.encode_prompt(PROMPT, video=False)
    negative, _ = pipe.encode_prompt("", video=False)
    same = pipe(prompt_embeds=embeds, negative_prompt_embeds=negative, num_frames=1, seed=1)
    assert np.array_equal(out.frames, same.frames)


def test_callback_sees_and_replaces_latents(pipe):
    seen = []

    def callback(given_pipe, step, timestep, tensors):
        assert given_pipe is pipe
        seen.append((step, float(timestep)))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 3 else {}

    out = pipe(PROMPT, seed=1, callback_on_step_end=callback, output_type="latent")
    assert [step for step, _ in seen] == [0, 1, 2, 3] and seen[0][1] == 1000.0
    assert not out.latents.any()


def test_embedded_guidance_is_rounded_like_the_released_weights(tmp_path):
    """6.0 * 1000 formed in bfloat16 is 6016, in float32 6000."""
    folder = write_random_checkpoint(tmp_path / "model", guidance_embed=True)
    for dtype, expected in ((torch.float32, 6000.0), (torch.bfloat16, 6016.0)):
        pipe = HunyuanVideoPipeline.from_pretrained(folder, dtype=dtype, device="cpu")
        received = []
        pipe.transformer.guidance_in.register_forward_pre_hook(lambda _, args, kept=received: kept.append(args[0]))
        pipe(PROMPT, guidance_scale=6.0, true_cfg_scale=1.0, num_inference_steps=1, output_type="latent")
        assert received[0].tolist() == [expected]


def test_guidance_scale_without_effect_is_said(pipe):
    with pytest.warns(UserWarning, match="guidance_scale has no effect"):
        pipe(PROMPT, guidance_scale=6.0, output_type="latent")


def test_parts_may_be_missing(pipe, checkpoint):
    bare = HunyuanVideoPipeline(pipe.transformer, defaults=pipe.defaults)
    with pytest.raises(ArgumentError, match="needs a vae"):
        bare(PROMPT)
    with pytest.raises(UserError, match="no text_encoder"):
        bare(PROMPT, output_type="latent")
    embeds, _ = pipe.encode_prompt(PROMPT)
    out = bare(prompt_embeds=embeds, true_cfg_scale=1.0, output_type="latent", seed=1)
    assert torch.equal(out.latents, pipe(prompt_embeds=embeds, true_cfg_scale=1.0, seed=1).latents)
    loaded = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu", parts=("transformer",))
    assert loaded.vae is None and loaded.text_encoder is None


def test_nan_from_the_model_is_an_error_not_a_black_video(pipe, tmp_path):
    broken = HunyuanVideoPipeline.from_pretrained(write_random_checkpoint(tmp_path / "m"), device="cpu")
    with torch.no_grad():
        broken.transformer.final_layer.linear.bias[0] = float("nan")
    with pytest.raises(UserError, match="NaN or infinity at sigma 1.000 in torch.float32"):
        broken(PROMPT)
