"""Normalization ops of the transformer blocks and the VAE: one memory pass each."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from hunyuan_ext import reference
from hunyuan_ext.core import check, native, plain
from hunyuan_ext.core.dispatch import DESCRIPTIONS, Op, Plan, choice, one_kernel, takes, trains_native
from hunyuan_ext.core.operands import affine_fits, in_rows, rows, volume_fits
from hunyuan_ext.core.types import Triple
from hunyuan_ext.norm import autograd, kernels

# Volumes below this many elements are left to torch in auto mode: the time is call overhead either way, and tiny
# models keep agreeing with other implementations to the last bit.
SMALL_VOLUME = 1 << 17


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
    return LAYER_NORM.plan((x, shift, scale), (eps,))(x, shift, scale, eps)


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
    return GATE_RESIDUAL.plan((x, y, gate), ())(x, y, gate)


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
    pad = tuple(pad)  # type: ignore[assignment]
    run = GROUP_NORM.plan((x, weight, bias, moments), (groups, eps, silu, pad, check.layout(x)))
    return run(x, weight, bias, groups, eps, silu, pad, moments)


def plan_layer_norm(tensors: tuple, constants: tuple) -> Plan:
    (x, shift, scale), (eps,) = tensors, constants
    batch, _, channels = check.tensor("x", x, "B S C")
    check.like("shift", shift, "B C", (batch, channels), x)
    check.like("scale", scale, "B C", (batch, channels), x)
    check.positive("eps", eps)
    if trains_native(x, shift, scale):
        return Plan(autograd.LayerNormModulate.apply, "layer_norm_modulate", "own forward and backward passes")
    if not (takes("layer_norm_modulate", x, shift, scale) and x.dtype == shift.dtype == scale.dtype):
        return Plan(_compose_layer_norm, "torch")
    if torch.compiler.is_compiling():
        return Plan(torch.ops.hunyuan_ext.layer_norm_modulate, "hunyuan_ext::layer_norm_modulate")
    run = kernels.layer_norm_modulate if all(map(in_rows, tensors)) else _layer_norm_of_rows
    return Plan(run, "layer_norm_modulate", _reason("layer_norm_modulate", x))


def _compose_layer_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    return reference.layer_norm_modulate(x, shift, scale, eps=eps)


def _layer_norm_of_rows(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    return kernels.layer_norm_modulate(rows(x), rows(shift), rows(scale), eps)


def plan_gate_residual(tensors: tuple, constants: tuple) -> Plan:
    x, y, gate = tensors
    batch, tokens, channels = check.tensor("x", x, "B S C")
    check.like("y", y, "B S C", (batch, tokens, channels), x)
    check.like("gate", gate, "B C", (batch, channels), x)
    if trains_native(x, y, gate):
        return Plan(autograd.GateResidual.apply, "gate_residual", "own forward and backward passes")
    if not (takes("gate_residual", x, y, gate) and x.dtype == y.dtype == gate.dtype):
        return Plan(reference.gate_residual, "torch")
    if torch.compiler.is_compiling():
        return Plan(torch.ops.hunyuan_ext.gate_residual, "hunyuan_ext::gate_residual")
    run = kernels.gate_residual if all(map(in_rows, tensors)) else _gate_residual_of_rows
    return Plan(run, "gate_residual", _reason("gate_residual", x))


def _gate_residual_of_rows(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    return kernels.gate_residual(rows(x), rows(y), rows(gate))


def plan_group_norm(tensors: tuple, constants: tuple) -> Plan:
    (x, weight, bias, moments), (groups, eps, _, pad, _) = tensors, constants
    channels = check.tensor("x", x, "B C T H W")[1]
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is not None:
            check.like(name, vector, "C", (channels,), x)
    if groups <= 0 or channels % groups:
        raise ValueError(f"groups: {groups} does not divide the {channels} channels of x")
    if len(pad) != 3 or min(pad) < 0:
        raise ValueError(f"pad: three counts (frames, rows, columns) that are not negative are needed, got {pad}")
    check.positive("eps", eps)
    if not (
        takes("group_norm_silu", x, weight, bias, moments)
        and affine_fits(x, weight, bias)
        and volume_fits(x)
        and not too_small(x)
    ):
        return Plan(_compose_group_norm, "torch")
    if torch.compiler.is_compiling():
        return Plan(_library_group_norm, "hunyuan_ext::group_norm_silu")
    return Plan(kernels.GroupNorm(x, pad).run, "group_norm_silu", _reason("group_norm_silu", x))


def too_small(x: Tensor) -> bool:
    """True if torch is left to normalize a volume of so few elements."""
    return not native.insisted() and x.numel() < SMALL_VOLUME and plain.device_type(x) == "cpu"


def _compose_group_norm(x, weight, bias, groups, eps, silu, pad, _):
    return reference.group_norm_silu(x, weight, bias, groups=groups, eps=eps, silu=silu, pad=pad)


def _library_group_norm(x, weight, bias, groups, eps, silu, pad, _):
    return torch.ops.hunyuan_ext.group_norm_silu(x, weight, bias, groups, eps, silu, pad)


def _reason(name: str, x: Tensor) -> str:
    return choice(name, plain.device_type(x), x.dtype, x.device.index).reason


def _describe_group_norm(device: str, dtype: torch.dtype) -> dict:
    entry = one_kernel("group_norm_silu", device, dtype)
    if entry["implementation"] == "native" and native.mode == "auto":
        entry["reason"] += f"; torch below {SMALL_VOLUME} elements"
    return entry


LAYER_NORM, GATE_RESIDUAL, GROUP_NORM = Op(plan_layer_norm), Op(plan_gate_residual), Op(plan_group_norm)
DESCRIPTIONS["group_norm_silu"] = _describe_group_norm
DESCRIPTIONS["layer_norm_modulate"] = partial(one_kernel, "layer_norm_modulate")
DESCRIPTIONS["gate_residual"] = partial(one_kernel, "gate_residual")
