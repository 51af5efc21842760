"""Normalisation ops of the transformer blocks and the VAE: one memory pass each."""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_ext import _check, _native, reference
from hunyuan_ext._backend import runs_native


def layer_norm_modulate(
    x: Tensor,  # [B, S, C]
    shift: Tensor,  # [B, C]
    scale: Tensor,  # [B, C]
    *,
    eps: float = 1e-6,
) -> Tensor:  # [B, S, C]
    """LayerNorm(x) * (1 + scale) + shift without affine weights: the adaLN of a DiT block (arXiv 2212.09748).

    Any floating dtype; statistics in float32 (float64 for float64). Native for float32 and bfloat16 on CPUs with
    AVX2 or AVX-512 and on CUDA; composed from torch operations under autograd or autocast.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    batch, _, channels = _check.tensor("x", x, "B S C")
    _check.like("shift", shift, "B C", (batch, channels), x)
    _check.like("scale", scale, "B C", (batch, channels), x)
    _check.positive("eps", eps)
    if not (runs_native("layer_norm_modulate", x, shift, scale) and x.dtype == shift.dtype == scale.dtype):
        return reference.layer_norm_modulate(x, shift, scale, eps=eps)
    if torch.compiler.is_compiling():
        return torch.ops.hunyuan_ext.layer_norm_modulate(x, shift, scale, eps)
    return _native.layer_norm_modulate(x, shift, scale, eps)


def gate_residual(
    x: Tensor,  # [B, S, C]
    y: Tensor,  # [B, S, C]
    gate: Tensor,  # [B, C]
) -> Tensor:  # [B, S, C]
    """x + gate * y: the gated residual of a DiT block, rounded once.

    Any floating dtype. Native for float32 and bfloat16 on CPUs with AVX2 or AVX-512 and on CUDA; composed from torch
    operations under autograd or autocast.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    batch, tokens, channels = _check.tensor("x", x, "B S C")
    _check.like("y", y, "B S C", (batch, tokens, channels), x)
    _check.like("gate", gate, "B C", (batch, channels), x)
    if not (runs_native("gate_residual", x, y, gate) and x.dtype == y.dtype == gate.dtype):
        return reference.gate_residual(x, y, gate)
    if torch.compiler.is_compiling():
        return torch.ops.hunyuan_ext.gate_residual(x, y, gate)
    return _native.gate_residual(x, y, gate)
