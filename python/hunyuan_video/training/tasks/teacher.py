"""Frozen flow models as velocity fields under guidance: what distillation learns from."""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_video.errors import UserError
from hunyuan_video.flow import both_branches, classifier_free_guidance
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.training.tasks.fields import Condition, expand, join, velocity_field


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
        value = scale.float() if isinstance(scale, Tensor) else torch.tensor(scale, dtype=torch.float32, device="cpu")
        scale = value.expand(len(latents))
        if self.embedded:
            return velocity_field(self.network, condition, scale)(latents, times)
        unconditional, conditional = self.branches(latents, times, condition)
        return classifier_free_guidance(conditional, unconditional, scale)

    @torch.no_grad()
    def branches(
        self,
        latents: Tensor,  # [B, C, T, h, w]
        times: Tensor,  # [B]
        condition: Condition,
    ) -> tuple[Tensor, Tensor]:
        """v_u and v_c, [B, C, T, h, w] float32 each, from one batch of twice the size."""
        both = join(expand(self.empty, len(latents)), condition)
        return both_branches(velocity_field(self.network, both), latents, times)
