"""Classifier-free guidance in velocity space: the formula, and the pass of twice the size that it needs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hunyuan_video.flow.schedule import per_sample

DoubledField = Callable[[Tensor, Tensor], Tensor]
"""(latents [2 B, ...], times [2 B]) -> velocity [2 B, ...]: B rows without the prompt, then B with it."""


def both_branches(
    field: DoubledField,
    latents: Tensor,  # [B, ...]
    times: Tensor,  # [B]
) -> tuple[Tensor, Tensor]:
    """The velocities without and with the prompt, [B, ...] float32 each, from one call."""
    unconditional, conditional = field(torch.cat((latents, latents)), torch.cat((times, times))).float().chunk(2)
    return unconditional, conditional


def guided(
    field: DoubledField,
    latents: Tensor,  # [B, ...]
    times: Tensor,  # [B]
    scale: float | Tensor,  # or [B]
    rescale: float = 0.0,
) -> Tensor:
    """The velocity under classifier-free guidance, [B, ...] float32."""
    unconditional, conditional = both_branches(field, latents, times)
    return classifier_free_guidance(conditional, unconditional, scale, rescale)


def classifier_free_guidance(
    conditional: Tensor,  # [B, ...] velocity with the prompt
    unconditional: Tensor,  # [B, ...] velocity with the negative prompt
    scale: float | Tensor,  # 1: conditional alone; [B]: a scale for each sample
    rescale: float = 0.0,  # 0..1, see `rescale_guidance`
) -> Tensor:
    """unconditional + scale * (conditional - unconditional), in float32, rescaled where asked.

    Raises ValueError on a rescale outside 0..1.
    """
    if not 0 <= rescale <= 1:
        raise ValueError(f"guidance_rescale must be between 0 and 1, got {rescale}")
    conditional, unconditional = conditional.float(), unconditional.float()
    scale = per_sample(scale, conditional) if isinstance(scale, Tensor) else scale
    guided = unconditional + scale * (conditional - unconditional)
    return rescale_guidance(guided, conditional, rescale) if rescale else guided


def rescale_guidance(
    guided: Tensor,  # [B, ...]
    conditional: Tensor,  # [B, ...]
    rescale: float,  # 0: guided as it is, 1: fully matched
) -> Tensor:
    """Mixes in `guided` scaled to the per-sample standard deviation of `conditional` (arXiv 2305.08891, section 3.4).

    Large scales widen the distribution, which burns colors; matching the deviation undoes it. Deviations are unbiased,
    over all dimensions but the batch.
    """
    dims = tuple(range(1, guided.ndim))
    wanted = conditional.std(dim=dims, keepdim=True)
    present = guided.std(dim=dims, keepdim=True)
    matched = guided * (wanted / present.clamp(min=torch.finfo(present.dtype).tiny))
    return rescale * matched + (1 - rescale) * guided
