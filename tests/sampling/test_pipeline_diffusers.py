"""The same checkpoint, noise and embeddings through diffusers' own pipeline."""

from __future__ import annotations

import pytest
import torch
from helpers.random_checkpoint import write_random_checkpoint

from hunyuan_video import HunyuanVideoPipeline

diffusers = pytest.importorskip("diffusers")


def test_diffusers_pipeline_gives_the_same_latents(tmp_path):
    folder = write_random_checkpoint(tmp_path / "model", guidance_embed=True)
    ours = HunyuanVideoPipeline.from_pretrained(folder, device="cpu")
    embeds, _ = ours.encode_prompt("a red star moves left")
    noise = torch.randn((1, 16, 2, 4, 6), generator=torch.Generator().manual_seed(3))
    sizes = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 3, "guidance_scale": 4.0}

    theirs = diffusers.HunyuanVideoPipeline(
        transformer=diffusers.HunyuanVideoTransformer3DModel.from_pretrained(folder / "transformer"),
        vae=diffusers.AutoencoderKLHunyuanVideo.from_pretrained(folder / "vae"),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None,
    )  # fmt: skip
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        prompt_embeds=embeds.text, prompt_attention_mask=embeds.mask, pooled_prompt_embeds=embeds.pooled,
        latents=noise, output_type="latent", **sizes,
    ).frames  # fmt: skip
    out = ours(prompt_embeds=embeds, latents=noise, true_cfg_scale=1.0, flow_shift=7.0, output_type="latent", **sizes)
    torch.testing.assert_close(out.latents, expected, atol=1e-4, rtol=1e-4)
