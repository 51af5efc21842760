"""FP8 attention as a peer does it, in torch, for comparisons of error."""

from __future__ import annotations

import torch
from torch import Tensor

E4M3_MOST = 448.0
PROBABILITY_RANGE = 256.0  # probabilities are rounded as 0..256, which e4m3 holds best


def rounded(x: Tensor, scale: Tensor | float) -> Tensor:
    """x as e4m3 codes times a scale."""
    return (x / scale).clamp(-E4M3_MOST, E4M3_MOST).to(torch.float8_e4m3fn).to(x.dtype) * scale


def per_head_fp8(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:  # [B, S, H, D] float64
    """FlashAttention-3's scheme (arXiv 2407.08608 without its optional rotation): e4m3 q, k, v with a scale a head,
    e4m3 probabilities, everything else exact."""
    q, k, v = (x.double() for x in (q, k, v))
    q, k, v = (rounded(x, x.abs().amax((1, 3), keepdim=True).clamp_min(1e-30) / E4M3_MOST) for x in (q, k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    out = torch.einsum("bhqk,bkhd->bqhd", rounded(weights, 1 / PROBABILITY_RANGE), v)
    return out / weights.sum(-1).transpose(1, 2)[..., None]


def relative_error(out: Tensor, exact: Tensor) -> float:
    return float((out.double() - exact).norm() / exact.norm())
