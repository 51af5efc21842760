"""Weights and activations of one byte: making them, and products with them composed from torch operations.

An FP8 weight is decoded a block of rows at a time, into memory that is used again: never a second copy of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hunyuan_ext import reference
from hunyuan_ext.core import check, native
from hunyuan_ext.core.dispatch import DESCRIPTIONS, takes
from hunyuan_ext.core.native import slow_bfloat16
from hunyuan_ext.core.operands import in_rows, rows
from hunyuan_ext.core.types import BFLOAT, E4M3, FLOAT, SCALE_BLOCK, Fp8Rows
from hunyuan_ext.linear import cpu

GRANULARITIES = ("row", "tensor", "block")
FP8_DTYPES = (E4M3, torch.float8_e5m2)
DECODED_BYTES = 2 << 20  # of one decoded block of rows: fits the second-level cache


def quantize_fp8(
    w: Tensor,  # [N, K]
    *,
    granularity: str = "row",
    dtype: torch.dtype = torch.float8_e4m3fn,
) -> tuple[Tensor, Tensor]:
    """Symmetric FP8 quantization to nearest, scale = largest magnitude / largest FP8 value; w ~ w8 * scale.

    Returns w8 [N, K] in `dtype` and scale in float32: [N, 1] for "row", [] for "tensor",
    [ceil(N / 128), ceil(K / 128)] for "block". An all-zero row, tensor or block has scale 1.
    """
    check.tensor("w", w, "N K")
    check.one_of("granularity", granularity, GRANULARITIES)
    check.one_of("dtype", dtype, FP8_DTYPES)
    return reference.quantize_fp8(w, granularity=granularity, dtype=dtype)


def quantize_int8(w: Tensor) -> tuple[Tensor, Tensor]:  # [N, K] -> int8 [N, K], fp32 [N, 1]
    """Symmetric int8 quantization of each row to nearest even, scale = largest magnitude / 127; w ~ w8 * scale.

    The values are in -127..127. An all-zero row has scale 1. Raises ValueError or TypeError for anything but a
    floating-point matrix.
    """
    check.tensor("w", w, "N K")
    return reference.quantize_int8(w.float())


def scale_block(weight: Tensor, scale: Tensor) -> int:
    """0 for one scale a tensor or row, else the side of the square that shares one."""
    return 0 if scale.ndim == 0 or tuple(scale.shape) == (weight.shape[0], 1) else SCALE_BLOCK


def one_scale(scale: Tensor) -> Tensor:
    """A scale of one element without dimensions, others as they are."""
    return scale.reshape(()) if scale.numel() == 1 else scale


def decode_fp8(weight: Tensor, scale: Tensor, out: Tensor, block: int) -> None:  # [N, K] -> out [N, K]
    """Writes weight * scale into `out` (float32 or bfloat16); `block` is 0 unless scale is per block. All in rows."""
    native.module.decode_fp8(weight, scale, out, block, torch.get_num_threads())


class Decoder:
    """Decoding of FP8 weights a block of rows at a time, for weights and scales like those of one plan."""

    def __init__(self, weight: Tensor, scale: Tensor, dtype: torch.dtype):
        """dtype: of the decoded rows."""
        self.dtype, self.block = dtype, scale_block(weight, scale)
        self.rows = max(1, DECODED_BYTES // max(1, weight.shape[1] * dtype.itemsize) // SCALE_BLOCK) * SCALE_BLOCK
        self.by_kernel = (
            dtype in (FLOAT, BFLOAT)
            and takes("decode_fp8", weight, scale)
            and not torch.compiler.is_compiling()  # a gradient being traced: fake tensors
        )
        self.dense = in_rows(weight) and (scale.ndim == 0 or in_rows(scale))

    def blocks(self, weight: Tensor, scale: Tensor) -> Iterator[tuple[int, int, Tensor]]:  # [N, K]
        """(first row, last row + 1, those rows of weight * scale); the memory is reused by the next block."""
        count, columns = weight.shape
        if self.by_kernel and not self.dense:
            weight, scale = rows(weight), rows(scale) if scale.ndim else scale
        buffer = torch.empty((min(self.rows, count), columns), dtype=self.dtype, device=weight.device)
        for start in range(0, count, self.rows):
            stop = min(start + self.rows, count)
            codes, out = weight[start:stop], buffer[: stop - start]
            part = scale if scale.ndim == 0 else scale[start // (self.block or 1) : -(-stop // (self.block or 1))]
            if self.by_kernel:
                decode_fp8(codes, part, out, self.block)
            else:
                wide = self.dtype if self.dtype == torch.float64 else torch.float32
                out.copy_(codes.to(wide) * reference.expand_scale(part, codes.shape, SCALE_BLOCK).to(wide))
            yield start, stop, out


def compute_dtype(x: Tensor) -> torch.dtype:
    return FLOAT if slow_bfloat16(x) else x.dtype


def fp8_product(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:  # [..., K] -> [..., N]
    """x @ (weight * scale).T + bias, by the CPU's kernel or block by block."""
    with torch.autocast(x.device.type, enabled=False):
        row = cpu.row_for(x, weight, scale, bias)
        if row is not None:
            return cpu.call((x,), weight, (scale, scale_block(weight, scale)), bias, unit=row.unit)
        return decoded_product(Decoder(weight, scale, compute_dtype(x)), x, weight, scale, bias)


def decoded_product(decoder: Decoder, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """x @ (weight * scale).T + bias, block by block, in the decoder's dtype."""
    dtype = decoder.dtype
    tokens = x.reshape(-1, x.shape[-1]).to(dtype)
    bias = None if bias is None else bias.to(dtype)
    out = torch.empty((tokens.shape[0], weight.shape[0]), dtype=dtype, device=x.device)
    for start, stop, part in decoder.blocks(weight, scale):
        if bias is None:
            torch.mm(tokens, part.T, out=out[:, start:stop])
        else:
            torch.addmm(bias[start:stop], tokens, part.T, out=out[:, start:stop])
    return out.to(x.dtype).view(*x.shape[:-1], weight.shape[0])


def int8_product(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:  # [..., K] -> [..., N]
    """q(x) @ (weight * scale).T + bias, where q quantizes each row of x to int8."""
    with torch.autocast(x.device.type, enabled=False):
        row = cpu.row_for(x, weight, scale, bias)
        if row is not None:
            return cpu.call((x,), weight, (scale, 0), bias, unit=row.unit)
        return composed_int8_product(x, weight, scale, bias)


def composed_int8_product(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """In torch operations; on a CPU with exact integer sums."""
    codes, x_scale = reference.quantize_int8(x.reshape(-1, x.shape[-1]))
    if x.device.type == "cpu" and codes.numel() and weight.numel():
        sums = torch._int_mm(codes, weight.T).to(x_scale.dtype)
    else:
        sums = codes.to(x_scale.dtype) @ weight.to(x_scale.dtype).T
    out = sums * x_scale * scale.to(x_scale.dtype).T
    out = out if bias is None else out + bias
    return out.to(x.dtype).view(*x.shape[:-1], weight.shape[0])


def quantize_rows(x: Tensor, block: int) -> Fp8Rows:  # [..., K]
    """E4M3 codes with a scale a row, or a scale for every `block` columns of a row, composed from torch operations."""
    flat = x.reshape(-1, x.shape[-1])
    if not block:
        codes, scale = reference.quantize_fp8(flat)
        return Fp8Rows(codes.view(x.shape), scale.flatten())
    parts = [reference.quantize_fp8(part) for part in flat.split(block, -1)]
    codes = torch.cat([part for part, _ in parts], -1)
    return Fp8Rows(codes.view(x.shape), torch.stack([scale.flatten() for _, scale in parts]))


def describe(device: str, dtype: torch.dtype) -> dict:
    """Entry of `capabilities` for quantize_fp8 and quantize_int8."""
    return {"implementation": "torch", "reason": "runs once, when a checkpoint is converted"}


DESCRIPTIONS["quantize_fp8"] = DESCRIPTIONS["quantize_int8"] = describe
