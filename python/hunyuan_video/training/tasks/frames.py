"""Latents to pictures inside a training run, which has little memory to spare."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from hunyuan_video.media.pixels import to_frames
from hunyuan_video.models import CausalVAE
from hunyuan_video.sampling.decode import decode_latents, to_uint8

BUDGETS = tuple(1 << power for power in range(25, 32))  # bytes, 32 MiB to 2 GiB


def frames_of(vae: CausalVAE, latents: Tensor) -> Tensor:  # [N, C, T, h, w] model space -> uint8 [N, F, H, W, 3]
    """One video at a time; on a CPU exactly, in the smallest of `BUDGETS` that will do: a training step may need less
    than one pass of the decoder."""
    return torch.cat([frames_of_one(vae, latent) for latent in latents.split(1)])


@torch.no_grad()
def frames_of_one(vae: CausalVAE, latent: Tensor) -> Tensor:  # [1, C, T, h, w] model space -> uint8 [1, F, H, W, 3]
    """As `frames_of`."""
    weight = next(vae.parameters())
    scaled = (latent / vae.config.scaling_factor).to(weight)
    for budget in BUDGETS if weight.device.type == "cpu" else ():
        with suppress(ValueError):  # too small for this size
            return to_frames(vae.decode(scaled, mode="exact", memory_budget=budget))
    return to_uint8(decode_latents(vae, latent))
