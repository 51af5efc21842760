"""diffusers' transformer, called with the arguments of ours."""

from __future__ import annotations

import diffusers
import torch
from torch import Tensor

from hunyuan_video.models.transformer.embeddings import sinusoid


@torch.no_grad()
def peer_velocity(model, arguments: dict[str, Tensor], share_frequencies: bool = True) -> Tensor:
    """The peer's output; share_frequencies: with our sinusoid in the place of its (parameterless) one.

    The frequencies come from a float32 exp, whose last bit differs between CPUs; a guidance of 6000 turns that bit into
    2e-4 of angle. Ours are the same everywhere, so large timesteps are compared on one and the same table.
    """
    if share_frequencies:
        for module in model.modules():
            if isinstance(module, diffusers.models.embeddings.Timesteps):
                module.forward = sinusoid
    return model(
        hidden_states=arguments["latents"],
        timestep=arguments["timestep"],
        encoder_hidden_states=arguments["text"],
        encoder_attention_mask=arguments["text_mask"],
        pooled_projections=arguments["pooled_text"],
        guidance=arguments["guidance"],
        return_dict=False,
    )[0]
