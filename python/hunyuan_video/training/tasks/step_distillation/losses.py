"""The two objectives as functions of tensors, apart from networks and data."""

from __future__ import annotations

import torch
from torch import Tensor


def pseudo_huber(difference: Tensor, c: float) -> Tensor:  # [B, ...] -> []
    """Mean of sqrt(d^2 + c^2) - c: quadratic below c, linear above."""
    return ((difference.square() + c * c).sqrt() - c).mean()


def distribution_matching_loss(
    clean: Tensor,  # [B, ...] what the student generated, with gradient
    real: Tensor,  # [B, ...] clean latents that the teacher predicts from its noised version
    fake: Tensor,  # [B, ...] that the fake score predicts from the same
) -> Tensor:
    """0.5 |x - sg(x - g)|^2 / batch elements, whose gradient is g = (fake - real) / mean |x - real| of each sample.

    DMD2 (arXiv 2405.14867), equation 1, with the normalization of DMD (arXiv 2311.18828), equation 8.
    """
    dims = tuple(range(1, clean.ndim))
    scale = (clean.detach() - real).abs().mean(dim=dims, keepdim=True).clamp(min=1e-6)
    gradient = torch.nan_to_num((fake - real) / scale)
    return 0.5 * (clean - (clean - gradient).detach()).square().mean()
