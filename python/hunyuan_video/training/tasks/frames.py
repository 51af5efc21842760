"""Latents to pictures inside a training run, which has little memory to spare."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from hunyuan_ext.core.heap import release_free_memory
from hunyuan_video.errors import UserError, notify
from hunyuan_video.media.pixels import to_frames
from hunyuan_video.models import CausalVAE
from hunyuan_video.sampling.decode import decode_latents, to_uint8

# Bytes, 112 MiB to 1.8 GiB. With the first a clip of the bundled model decodes a third faster than with 32 MiB, and
# the run's largest memory stays within 1.1 times that of its training steps.
BUDGETS = tuple(7 << power for power in range(24, 29))


def try_decoder(vae: CausalVAE) -> None:
    """Decodes almost nothing, before the first step: a decoder that fails is told then, not after hours of training.

    What a first decode loads is in memory from here on, too, not only from the first evaluation.
    """
    weight = next(vae.parameters())
    latent = torch.zeros(1, vae.config.latent_channels, 2, 4, 4, dtype=weight.dtype, device=weight.device)
    try:
        frames_of_one(vae, latent)
    except (UserError, RuntimeError, ValueError) as error:
        notify(f"the VAE's decoder fails, evaluations and sheets will: {error}")


def frames_of(vae: CausalVAE, latents: Tensor) -> Tensor:  # [N, C, T, h, w] model space -> uint8 [N, F, H, W, 3]
    """One video at a time; on a CPU exactly, in the smallest of `BUDGETS` that will do: a training step may need less
    than one pass of the decoder."""
    return torch.cat([frames_of_one(vae, latent) for latent in latents.split(1)])


@torch.no_grad()
def frames_of_one(vae: CausalVAE, latent: Tensor) -> Tensor:  # [1, C, T, h, w] model space -> uint8 [1, F, H, W, 3]
    """As `frames_of`."""
    weight = next(vae.parameters())
    release_free_memory()  # of the steps before, or of the last video: each then needs the same
    scaled = (latent / vae.config.scaling_factor).to(weight)
    for budget in BUDGETS if weight.device.type == "cpu" else ():
        with suppress(ValueError):  # too small for this size
            return to_frames(vae.decode(scaled, mode="exact", memory_budget=budget))
    return to_uint8(decode_latents(vae, latent))
