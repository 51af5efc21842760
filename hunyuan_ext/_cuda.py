"""Calls of the CUDA kernels around the tensor cores: causal convolution, FP8 products and what feeds them.

Like _native, only for tensors that `_backend.runs_native` accepted; the `*_fits` functions say what else they need.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from hunyuan_ext._native import _C, is_channels_last, rows
from hunyuan_ext._types import Fp8Rows, Triple

LAST = torch.channels_last_3d
E4M3 = torch.float8_e4m3fn
SCALE_BLOCK = 128  # columns (and rows of a weight) that share a scale
MOST_TAPS = 64
LONG_INNER = 8192  # columns of K from which x is quantised by blocks: the kernel then adds up by blocks in any case
MOST_ROW = 32768  # columns of a row that is quantised as a whole


def conv_fits(
    x: Tensor,  # [B, C, T, H, W], padded
    weight: Tensor,  # [N, C, kt, kh, kw]
    bias: Tensor | None,
    residual: Tensor | None,
    stride: Triple,
) -> bool:
    """Whether the convolution kernel takes this call: channels-last, one dtype, strides of 1 and 2, at most 64 taps."""
    taps = weight.shape[2] * weight.shape[3] * weight.shape[4]
    return (
        (is_channels_last(x) or is_channels_last(weight))
        and weight.dtype == x.dtype
        and (bias is None or bias.dtype in (x.dtype, torch.float32))
        and (residual is None or residual.dtype == x.dtype)
        and taps <= MOST_TAPS
        and all(step in (1, 2) for step in stride)
    )


def moments_fit(channels: int, groups: int) -> bool:
    """Whether the convolution can leave a GroupNorm's statistics: no group crosses a tile of 32 or 128 channels."""
    if groups <= 0 or channels % groups:
        return False
    return (32 if channels <= 32 else 128) % (channels // groups) == 0


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
    volume = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], weight.shape[2:], stride, strict=True)]
    shape = (x.shape[0], weight.shape[0], *volume)
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=LAST)
    if out.numel() == 0:
        return out, None
    moments = None
    if groups and moments_fit(weight.shape[0], groups):
        chunks = _C.causal_conv3d_moment_chunks(x, weight, stride)
        moments = torch.empty((x.shape[0], chunks, groups, 3), dtype=torch.float32, device=x.device)
    bias = None if bias is None else bias.contiguous()
    residual = None if residual is None else dense_last(residual)
    _C.causal_conv3d(x, weight, bias, residual, out, moments, groups, stride)
    return out, moments


def dense_last(x: Tensor) -> Tensor:
    """x, or a copy of it, stored as [B, T, H, W, C] from a multiple of 16 bytes on."""
    x = x.contiguous(memory_format=LAST)
    return x if x.data_ptr() % 16 == 0 else x.clone(memory_format=LAST)


def widened(x: Tensor) -> Tensor:  # [B, C, T, H, W]
    """x channels-last with zero channels up to a multiple of 8: the kernel reads 16 bytes at a time."""
    missing = -x.shape[1] % 8
    if not missing:
        return dense_last(x)
    shape = (x.shape[0], x.shape[1] + missing, *x.shape[2:])
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=LAST).zero_()
    out[:, : x.shape[1]].copy_(x)
    return out


def quantize_rows(x: Tensor, block: int = 0) -> Fp8Rows:  # [M, K]
    """E4M3 codes with a scale a row, or a scale for every `block` = 128 columns of a row."""
    count, columns = x.shape
    codes = torch.empty((count, columns), dtype=E4M3, device=x.device)
    shape = (-(-columns // block), count) if block else (count,)
    scale = torch.empty(shape, dtype=torch.float32, device=x.device)
    _C.quantize_rows(aligned_rows(x), codes, scale)
    return Fp8Rows(codes, scale)


def aligned_rows(x: Tensor) -> Tensor:  # [..., K]
    """x, or a copy of it, whose rows start at multiples of 16 bytes."""
    x = rows(x)
    step = 16 // x.element_size()
    if x.data_ptr() % 16 == 0 and all(stride % step == 0 for stride in x.stride()[:-1]):
        return x
    return x.clone(memory_format=torch.contiguous_format)


def layer_norm_modulate_fp8(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Fp8Rows:  # [B, S, C]
    batch, tokens, channels = x.shape
    codes = torch.empty((batch * tokens, channels), dtype=E4M3, device=x.device)
    out_scale = torch.empty((batch * tokens,), dtype=torch.float32, device=x.device)
    _C.layer_norm_modulate_fp8(rows(x), rows(shift), rows(scale), codes, out_scale, eps)
    return Fp8Rows(codes, out_scale)


def linear_fits(weight: Tensor, *others: Tensor | None) -> bool:
    """Whether the FP8 product takes this weight [N, K] and these bfloat16 tensors (bias, gate, residual)."""
    return (
        weight.dtype == E4M3
        and weight.is_contiguous()
        and all(size % 16 == 0 and size > 0 for size in weight.shape)
        and all(other is None or other.dtype == torch.bfloat16 for other in others)
    )


def linear_fp8(
    x: Tensor | Fp8Rows,  # [..., K] bfloat16, or [M, K] quantised
    weight: Tensor,  # [N, K] E4M3
    scale: Tensor,  # fp32: [], [N, 1] or [ceil(N / 128), ceil(K / 128)]
    bias: Tensor | None,  # [N]
    gelu: bool,
    gate: Tensor | None,  # [B, N]
    residual: Tensor | None,  # [..., N]
    quantised: bool = False,
) -> Tensor | Fp8Rows:  # [..., N] bfloat16, or [M, N] with a scale for every 128 columns of a row
    if isinstance(x, Fp8Rows):
        left, lead = x, x.codes.shape[:1] if residual is None else residual.shape[:-1]
    else:
        left = quantize_rows(x.reshape(-1, x.shape[-1]), SCALE_BLOCK if x.shape[-1] >= LONG_INNER else 0)
        lead = x.shape[:-1]
    shape = left.codes.shape[0], weight.shape[0]
    out_scale = None
    if quantised:
        out_scale = torch.empty((-(-shape[1] // SCALE_BLOCK), shape[0]), dtype=torch.float32, device=weight.device)
    out = torch.empty(shape, dtype=E4M3 if quantised else torch.bfloat16, device=weight.device)
    bias, residual = aligned(bias), aligned(None if residual is None else residual.reshape(shape))
    gate = None if gate is None else even_rows(gate)
    weight, scale = cast(Tensor, aligned(weight)), scale.contiguous()
    _C.linear_fp8(left.codes, left.scale, weight, scale, bias, gate, residual, out, out_scale, gelu)
    return Fp8Rows(out, out_scale) if out_scale is not None else out.view(*lead, shape[1])


def aligned(x: Tensor | None) -> Tensor | None:
    """x contiguous from a multiple of 16 bytes on."""
    if x is None or (x.is_contiguous() and x.data_ptr() % 16 == 0):
        return x
    return x.clone(memory_format=torch.contiguous_format)


def even_rows(gate: Tensor) -> Tensor:  # [B, N], a slice of all modulations
    """gate, or a copy of it, from a multiple of 16 bytes on and with rows an even number of elements apart."""
    gate = rows(gate)
    fits = gate.data_ptr() % 16 == 0 and gate.stride(0) % 2 == 0
    return gate if fits else gate.clone(memory_format=torch.contiguous_format)
