"""Kernels of the causal convolution (CUDA), of its padding and of the steps on slabs: their calls and library ops."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from hunyuan_ext import reference
from hunyuan_ext.conv import autograd
from hunyuan_ext.core import native
from hunyuan_ext.core.dispatch import kernel, takes
from hunyuan_ext.core.library import promoted, register
from hunyuan_ext.core.operands import LAST, dense_last, is_channels_last, memory_format, padded_shape
from hunyuan_ext.core.types import BFLOAT, FLOAT, HALF, Triple

kernel("pad_causal", cpu=(FLOAT, BFLOAT, HALF), cuda=(FLOAT, BFLOAT, HALF), copies=True)
kernel("channel_moments", cpu=(FLOAT, BFLOAT))
kernel(
    "causal_conv3d",
    cuda=(BFLOAT, HALF),
    tensor_cores={
        "sm_80": "mma.sync",
        "sm_89": "mma.sync",
        "sm_90a": "wgmma and TMA from 64 channels on, mma.sync below",
    },
)

MOST_TAPS = 64


def conv_fits(
    x: Tensor,  # [B, C, T, H, W], padded
    weight: Tensor,  # [N, C, kt, kh, kw]
    bias: Tensor | None,
    residual: Tensor | None,
    stride: Triple,
) -> bool:
    """True if the convolution kernel takes this call: channels-last, one dtype, strides of 1 and 2, at most 64 taps."""
    taps = weight.shape[2] * weight.shape[3] * weight.shape[4]
    return (
        (is_channels_last(x) or is_channels_last(weight))
        and weight.dtype == x.dtype
        and (bias is None or bias.dtype in (x.dtype, FLOAT))
        and (residual is None or residual.dtype == x.dtype)
        and taps <= MOST_TAPS
        and all(step in (1, 2) for step in stride)
    )


def moments_fit(channels: int, groups: int) -> bool:
    """True if the convolution can leave a GroupNorm's statistics: no group crosses a tile of 32 or 128 channels."""
    if groups <= 0 or channels % groups:
        return False
    return (32 if channels <= 32 else 128) % (channels // groups) == 0


def output_shape(x: Tensor, weight: Tensor, stride: Triple) -> list[int]:
    """[B, N, T, H, W] of the convolution of a padded x."""
    volume = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], weight.shape[2:], stride, strict=True)]
    return [x.shape[0], weight.shape[0], *volume]


def causal_conv3d(
    x: Tensor,  # [B, C, T, H, W], padded
    weight: Tensor,  # [N, C, kt, kh, kw]
    bias: Tensor | None,  # [N]
    residual: Tensor | None,  # shape of the output
    stride: Triple,
    groups: int = 0,
) -> tuple[Tensor, Tensor | None]:
    """The convolution, channels-last, and with `groups` its moments [B, chunks, groups, 3] for group_norm_silu."""
    x, weight = widened(x), widened(weight)
    shape = output_shape(x, weight, stride)
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=LAST)
    if out.numel() == 0:
        return out, None
    moments = None
    if groups and moments_fit(weight.shape[0], groups):
        chunks = native.module.causal_conv3d_moment_chunks(x, weight, stride)
        moments = torch.empty((x.shape[0], chunks, groups, 3), dtype=FLOAT, device=x.device)
    bias = None if bias is None else bias.contiguous()
    residual = None if residual is None else dense_last(residual)
    native.module.causal_conv3d(x, weight, bias, residual, out, moments, groups, stride)
    return out, moments


def widened(x: Tensor) -> Tensor:  # [B, C, T, H, W]
    """x channels-last with zero channels up to a multiple of 8: the kernel reads 16 bytes at a time."""
    missing = -x.shape[1] % 8
    if not missing:
        return dense_last(x)
    shape = (x.shape[0], x.shape[1] + missing, *x.shape[2:])
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=LAST).zero_()
    out[:, : x.shape[1]].copy_(x)
    return out


def pad_causal(x: Tensor, pad: Triple) -> Tensor:  # [B, C, T, H, W]
    layout = memory_format(x)
    out = torch.empty(padded_shape(x, pad), dtype=x.dtype, device=x.device, memory_format=layout)
    native.module.pad_causal(x.contiguous(memory_format=layout), out, pad, torch.get_num_threads())
    return out


def pad_slab(x: Tensor, out: Tensor, pad: Triple) -> None:  # [t, h, W, C]
    native.module.pad_slab(x.contiguous(), out, pad, torch.get_num_threads())


def norm_slab(x: Tensor, affine: Tensor, out: Tensor, silu: bool, pad: Triple) -> None:  # [t, h, W, C], [3, C]
    native.module.norm_slab(x.contiguous(), affine, out, silu, pad, torch.get_num_threads())


def channel_moments(x: Tensor, totals: Tensor, seen: int) -> None:  # [t, h, W, C], [3, C] float64
    native.module.channel_moments(x.contiguous(), totals, seen, torch.get_num_threads())


def _pad_causal(x: Tensor, pad: list[int]) -> Tensor:
    sides = cast(Triple, tuple(pad))
    if takes("pad_causal", x):
        return pad_causal(x, sides)
    out = reference.pad_causal(x, sides).contiguous(memory_format=memory_format(x))
    return out if any(pad) else out.clone()


def _pad_causal_fake(x, pad):
    shape = padded_shape(x, tuple(pad))
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


register("pad_causal(Tensor x, SymInt[] pad) -> Tensor", _pad_causal, _pad_causal_fake, autograd.pad_causal)


def _causal_conv3d(x, weight, bias, residual, stride):
    steps = cast(Triple, tuple(stride))
    if takes("causal_conv3d", x, weight, bias, residual) and conv_fits(x, weight, bias, residual, steps):
        return causal_conv3d(x, weight, bias, residual, steps)[0]
    out = torch.nn.functional.conv3d(x, weight, bias, stride)
    out = out if residual is None else out + residual
    return out.contiguous(memory_format=conv_format(x, weight))


def conv_format(x: Tensor, weight: Tensor) -> torch.memory_format:
    return LAST if is_channels_last(x) or is_channels_last(weight) else torch.contiguous_format


def _causal_conv3d_fake(x, weight, bias, residual, stride):
    shape = output_shape(x, weight, stride)
    dtype = x.dtype if residual is None else promoted(x, residual)
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=conv_format(x, weight))


register(
    "causal_conv3d(Tensor x, Tensor weight, Tensor? bias, Tensor? residual, SymInt[] stride) -> Tensor",
    _causal_conv3d,
    _causal_conv3d_fake,
    autograd.causal_conv3d,
)
