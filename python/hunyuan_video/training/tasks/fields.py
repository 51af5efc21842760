"""Transformers as velocity fields (latents, times) -> velocity, under a condition: what `flow.integrate` follows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hunyuan_video.flow import guided
from hunyuan_video.flow.integrate import Field
from hunyuan_video.models.transformer.embeddings import guidance_input

Condition = dict[str, Tensor]  # text [B, L, text_dim], text_mask [B, L], pooled_text [B, pooled_dim]


def expand(condition: Condition, count: int) -> Condition:
    """One row repeated `count` times."""
    return {name: value.expand(count, *value.shape[1:]) for name, value in condition.items()}


def join(first: Condition, second: Condition) -> Condition:
    """The rows of both, padded alike."""
    return {name: torch.cat((first[name], second[name])) for name in first}


def velocity_field(network: nn.Module, condition: Condition, guidance: float | Tensor | None = None) -> Field:
    """One pass of the network, float32. guidance: the scale, or [B], of a network that takes it as an input."""

    def field(latents: Tensor, times: Tensor) -> Tensor:
        times = times.to(latents.device)
        extra = {}
        if guidance is not None:
            extra["guidance"] = guidance_input(guidance, torch.float32).to(times).expand_as(times).contiguous()
        return network(latents, 1000 * times, **condition, **extra).float()

    return field


def guided_field(
    network: nn.Module,
    both: Condition,  # [2 B, ...] each: B empty captions, then the captions
    scale: float | Tensor,  # or [B]
) -> Field:
    """The velocity under classifier-free guidance: both passes in one batch."""
    field = velocity_field(network, both)
    return lambda latents, times: guided(field, latents, times, scale)
