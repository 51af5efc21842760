"""Calls of the CUDA kernels around the tensor cores: causal convolution, FP8 products and what feeds them.

Like _native, only for tensors that `_backend.runs_native` accepted; the `*_fits` functions say what else they need.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def quantize_rows(x: Tensor, block: int = 0) -> Fp8Rows:  # [..., K]
    """E4M3 codes with a scale a row, or a scale for every `block` = 128 columns of a row."""
    flat = x.reshape(-1, x.shape[-1])
    codes = torch.empty(flat.shape, dtype=E4M3, device=x.device)
    scale = torch.empty(scale_shape(flat.shape[0], flat.shape[1], block), dtype=torch.float32, device=x.device)
    _C.quantize_rows(aligned_rows(flat), codes, scale)
    return Fp8Rows(codes.view(x.shape), scale)


def scale_shape(count: int, columns: int, block: int) -> tuple[int, ...]:
    return (-(-columns // block), count) if block else (count,)


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
    return Fp8Rows(codes.view(x.shape), out_scale)


def linear_fits(weight: Tensor, *others: Tensor | None) -> bool:
    """Whether the FP8 product takes this weight [N, K] and these bfloat16 tensors (bias, gate, residual)."""
    return (
        weight.dtype == E4M3
        and weight.is_contiguous()
        and all(size % 16 == 0 and size > 0 for size in weight.shape)
        and all(other is None or other.dtype == torch.bfloat16 for other in others)
    )


def x_block(columns: int) -> int:
    """Columns of a row that share a scale when x [..., columns] is quantised for a product."""
    return SCALE_BLOCK if columns >= LONG_INNER else 0


def parts_fit(parts: Sequence[Fp8Rows]) -> bool:
    """Whether the product takes these as its x: one, or two with scales by block, the first of whole blocks."""
    by_block = all(part.scale.ndim == 2 for part in parts)
    return len(parts) == 1 or (by_block and parts[0].codes.shape[-1] % SCALE_BLOCK == 0)


def linear_fp8(
    parts: Sequence[Fp8Rows],  # [..., K], or two that are K together
    weight: Tensor,  # [N, K] E4M3
    scale: Tensor,  # fp32: [], [N, 1] or [ceil(N / 128), ceil(K / 128)]
    bias: Tensor | None,  # [N]
    gelu: bool,
    gate: Tensor | None,  # [B, N]
    residual: Tensor | None,  # [..., N]
    out: Tensor | None = None,  # [..., N] bfloat16
) -> Tensor:  # [..., N] bfloat16
    shape = (*parts[0].codes.shape[:-1], weight.shape[0])
    result = out if out is not None and out.is_contiguous() and out.data_ptr() % 16 == 0 else None
    if result is None:
        result = torch.empty(shape, dtype=torch.bfloat16, device=weight.device)
    _run_linear(parts, weight, scale, bias, gelu, gate, residual, result.view(-1, shape[-1]), None)
    return result if out is None or out is result else out.copy_(result)


def linear_fp8_quantised(
    parts: Sequence[Fp8Rows], weight: Tensor, scale: Tensor, bias: Tensor | None, gelu: bool
) -> Fp8Rows:  # [..., N] with a scale for every 128 columns of a row
    """linear_fp8 whose epilogue quantises."""
    lead, columns = parts[0].codes.shape[:-1], weight.shape[0]
    count = lead.numel()
    codes = torch.empty((count, columns), dtype=E4M3, device=weight.device)
    out_scale = torch.empty(scale_shape(count, columns, SCALE_BLOCK), dtype=torch.float32, device=weight.device)
    _run_linear(parts, weight, scale, bias, gelu, None, None, codes, out_scale)
    return Fp8Rows(codes.view(*lead, columns), out_scale)


def _run_linear(
    parts: Sequence[Fp8Rows], weight: Tensor, scale: Tensor, bias: Tensor | None, gelu: bool, gate: Tensor | None,
    residual: Tensor | None, out: Tensor, out_scale: Tensor | None,
) -> None:  # fmt: skip
    flat = [(part.codes.reshape(-1, part.codes.shape[-1]), part.scale) for part in parts]
    head, tail = flat[0], flat[1] if len(flat) > 1 else (None, None)
    bias, residual = aligned(bias), aligned(None if residual is None else residual.reshape(out.shape))
    gate = None if gate is None else even_rows(gate)
    weight, scale = cast(Tensor, aligned(weight)), cast(Tensor, aligned(scale))
    _C.linear_fp8(*head, *tail, weight, scale, bias, gate, residual, out, out_scale, gelu)


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
