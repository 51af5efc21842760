"""Normalisation ops of the transformer blocks and the VAE: one memory pass each."""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_ext import _check, _direct, _native, _training, reference
from hunyuan_ext._backend import runs_native, too_small
from hunyuan_ext._types import Triple


def layer_norm_modulate(
    x: Tensor,  # [B, S, C]
    shift: Tensor,  # [B, C]
    scale: Tensor,  # [B, C]
    *,
    eps: float = 1e-6,
) -> Tensor:  # [B, S, C]
    """LayerNorm(x) * (1 + scale) + shift without affine weights: the adaLN of a DiT block (arXiv 2212.09748).

    Any floating dtype; statistics in float32 (float64 for float64). Native for float32 and bfloat16 on CPUs with
    AVX2 or AVX-512 and on CUDA; under autograd for bfloat16 on such CPUs, also within autocast (the result is then
    bfloat16, too); else composed from torch operations under autograd or autocast.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    out = _direct.layer_norm_modulate(x, shift, scale, eps)
    if out is not None:
        return out
    batch, _, channels = _check.tensor("x", x, "B S C")
    _check.like("shift", shift, "B C", (batch, channels), x)
    _check.like("scale", scale, "B C", (batch, channels), x)
    _check.positive("eps", eps)
    if _training.takes(x, shift, scale):
        return _training.LayerNormModulate.apply(x, shift, scale, eps)
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

    Any floating dtype. Native for float32 and bfloat16 on CPUs with AVX2 or AVX-512 and on CUDA; under autograd for
    bfloat16 on such CPUs; else composed from torch operations under autograd or autocast.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    out = _direct.gate_residual(x, y, gate)
    if out is not None:
        return out
    batch, tokens, channels = _check.tensor("x", x, "B S C")
    _check.like("y", y, "B S C", (batch, tokens, channels), x)
    _check.like("gate", gate, "B C", (batch, channels), x)
    if _training.takes(x, y, gate):
        return _training.GateResidual.apply(x, y, gate)
    if not (runs_native("gate_residual", x, y, gate) and x.dtype == y.dtype == gate.dtype):
        return reference.gate_residual(x, y, gate)
    if torch.compiler.is_compiling():
        return torch.ops.hunyuan_ext.gate_residual(x, y, gate)
    return _native.gate_residual(x, y, gate)


def group_norm_silu(
    x: Tensor,  # [B, C, T, H, W], NCDHW or channels_last_3d
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    *,
    groups: int = 32,
    eps: float = 1e-6,
    silu: bool = True,
    pad: Triple = (0, 0, 0),
    moments: Tensor | None = None,  # [B, chunks, groups, 3] fp32
) -> Tensor:  # [B, C, T + pad[0], H + 2 pad[1], W + 2 pad[2]]
    """silu(GroupNorm(x)), statistics over (C / groups, T, H, W), replicate-padded for the next causal convolution.

    pad: copies of the first frame in front, rows and columns around; the padding costs no pass. The output has x's
    memory format. moments: the statistics of x that causal_conv3d_moments left, which save a pass over x; read by the
    CUDA kernel only. Native for float32 and bfloat16 on CPUs with AVX2 or AVX-512 from 131072 elements on and for
    channels-last volumes on CUDA (float16, too), statistics merged in float64 in a fixed order; composed from torch
    operations elsewhere and under autograd or autocast.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    channels = _check.tensor("x", x, "B C T H W")[1]
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is not None:
            _check.like(name, vector, "C", (channels,), x)
    if groups <= 0 or channels % groups:
        raise ValueError(f"groups: {groups} does not divide the {channels} channels of x")
    if len(pad) != 3 or min(pad) < 0:
        raise ValueError(f"pad: three counts (frames, rows, columns) that are not negative are needed, got {pad}")
    _check.positive("eps", eps)
    native = (
        runs_native("group_norm_silu", x, weight, bias, moments)
        and _native.affine_fits(x, weight, bias)
        and _native.volume_fits(x)
        and not too_small(x)
    )
    if not native:
        return reference.group_norm_silu(x, weight, bias, groups=groups, eps=eps, silu=silu, pad=pad)
    if torch.compiler.is_compiling():
        return torch.ops.hunyuan_ext.group_norm_silu(x, weight, bias, groups, eps, silu, pad)
    return _native.group_norm_silu(x, weight, bias, groups, eps, silu, pad, moments)
