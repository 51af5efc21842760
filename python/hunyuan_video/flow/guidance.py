"""Classifier-free guidance in velocity space."""

from __future__ import annotations

import torch
from torch import Tensor


def classifier_free_guidance(
    conditional: Tensor,  # [B, ...] velocity with the prompt
    unconditional: Tensor,  # [B, ...] velocity with the negative prompt
    scale: float,  # 1: conditional alone
    rescale: float = 0.0,  # 0..1, see `rescale_guidance`
) -> Tensor:
    """unconditional + scale * (conditional - unconditional), in float32, rescaled where asked.

    Raises ValueError on a rescale outside 0..1.
    """
    if not 0 <= rescale <= 1:
        raise ValueError(f"guidance_rescale must be between 0 and 1, got {rescale}")
    conditional, unconditional = conditional.float(), unconditional.float()
    guided = unconditional + scale * (conditional - unconditional)
    return rescale_guidance(guided, conditional, rescale) if rescale else guided


def rescale_guidance(
    guided: Tensor,  # [B, ...]
    conditional: Tensor,  # [B, ...]
    rescale: float,  # 0: guided as it is, 1: fully matched
) -> Tensor:
    """Mixes in `guided` scaled to the per-sample standard deviation of `conditional` (arXiv 2305.08891, section 3.4).

    Large scales widen the distribution, which burns colours; matching the deviation undoes it. Deviations are unbiased,
    over all dimensions but the batch.
    """
    dims = tuple(range(1, guided.ndim))
    wanted = conditional.std(dim=dims, keepdim=True)
    present = guided.std(dim=dims, keepdim=True)
    matched = guided * (wanted / present.clamp(min=torch.finfo(present.dtype).tiny))
    return rescale * matched + (1 - rescale) * guided
