"""Frozen flow models as velocity fields under guidance: what distillation learns from."""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_video.errors import UserError
from hunyuan_video.flow import classifier_free_guidance
from hunyuan_video.models import HunyuanVideoTransformer

Condition = dict[str, Tensor]  # text [B, L, text_dim], text_mask [B, L], pooled_text [B, pooled_dim]


def expand(condition: Condition, count: int) -> Condition:
    """One row repeated `count` times."""
    return {name: value.expand(count, *value.shape[1:]) for name, value in condition.items()}


def join(first: Condition, second: Condition) -> Condition:
    """The rows of both, padded alike."""
    return {name: torch.cat((first[name], second[name])) for name in first}


def combine(unconditional: Tensor, conditional: Tensor, scale: Tensor) -> Tensor:  # scale: [B]
    """Classifier-free guidance with a scale for each clip."""
    return classifier_free_guidance(conditional, unconditional, scale.view(-1, *[1] * (conditional.ndim - 1)))


class Teacher:
    """A frozen transformer that predicts under guidance: two passes, or one where it takes the scale as an input.

    empty: the condition of the empty caption, one row; only two passes read it. Raises UserError for an image-to-video
    transformer: distillation draws no clean first frames.
    """

    def __init__(self, network: HunyuanVideoTransformer, empty: Condition):
        if network.config.image_condition:
            raise UserError("teacher: an image-to-video transformer cannot be distilled; give a text-to-video one")
        self.network = network.eval().requires_grad_(False)
        self.empty = empty
        self.embedded = network.config.guidance_embed

    @torch.no_grad()
    def velocity(
        self,
        latents: Tensor,  # [B, C, T, h, w] at noise level times
        times: Tensor,  # [B] 0..1
        condition: Condition,
        scale: float | Tensor,  # one, or [B]
    ) -> Tensor:
        """v_u + scale (v_c - v_u): [B, C, T, h, w] float32."""
        scale = torch.as_tensor(scale, dtype=torch.float32).expand(len(latents))
        if self.embedded:
            return self.network(latents, 1000 * times, **condition, guidance=1000 * scale).float()
        return combine(*self.branches(latents, times, condition), scale)

    @torch.no_grad()
    def branches(
        self,
        latents: Tensor,  # [B, C, T, h, w]
        times: Tensor,  # [B]
        condition: Condition,
    ) -> tuple[Tensor, Tensor]:
        """v_u and v_c, [B, C, T, h, w] float32 each, from one batch of twice the size."""
        doubled, twice = torch.cat((latents, latents)), torch.cat((times, times))
        both = join(expand(self.empty, len(latents)), condition)
        unconditional, conditional = self.network(doubled, 1000 * twice, **both).float().chunk(2)
        return unconditional, conditional
