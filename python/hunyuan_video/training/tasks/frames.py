"""Latents to pictures inside a training run, which has little memory to spare."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from hunyuan_video.media.pixels import to_frames
from hunyuan_video.models import CausalVAE
from hunyuan_video.sampling.decode import automatic_mode, decode_latents, to_uint8

BUDGETS = tuple(1 << power for power in range(27, 32))  # bytes, 128 MiB to 2 GiB


@torch.no_grad()
def frames_of(vae: CausalVAE, latents: Tensor) -> Tensor:  # [N, C, T, h, w] model space -> uint8 [N, F, H, W, 3]
    """One video at a time; on a CPU a large one in the smallest of `BUDGETS` that the exact decoder can do with."""
    weight = next(vae.parameters())
    if automatic_mode(vae, latents, weight.device) != "exact":
        return to_uint8(decode_latents(vae, latents))
    scaled = (latents / vae.config.scaling_factor).to(weight)
    for budget in BUDGETS:
        with suppress(ValueError):  # too small for this size
            videos = (vae.decode(latent, mode="exact", memory_budget=budget) for latent in scaled.split(1))
            return torch.cat([to_frames(video) for video in videos])
    return to_uint8(decode_latents(vae, latents))
