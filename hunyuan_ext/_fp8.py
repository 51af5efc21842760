"""x @ (weight * scale).T + bias with the FP8 weight decoded a block of rows at a time: never a second copy of it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext import _cpu_linear, _native, reference
from hunyuan_ext._backend import runs_native, slow_bfloat16
from hunyuan_ext._gradients import Gradients
from hunyuan_ext._types import Fp8Rows

SCALE_BLOCK = 128  # rows and columns that share a scale in the "block" granularity
DECODED_BYTES = 2 << 20  # of one decoded block of rows: fits the second-level cache


def scale_block(weight: Tensor, scale: Tensor) -> int:
    """0 for one scale a tensor or row, else the side of the square that shares one."""
    return 0 if scale.ndim == 0 or tuple(scale.shape) == (weight.shape[0], 1) else SCALE_BLOCK


def decoded_blocks(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Iterator[tuple[int, int, Tensor]]:
    """(first row, last row + 1, those rows of weight * scale); the memory is reused by the next block."""
    rows, columns = weight.shape
    block = scale_block(weight, scale)
    step = max(1, DECODED_BYTES // max(1, columns * dtype.itemsize) // SCALE_BLOCK) * SCALE_BLOCK
    native = (
        dtype in (torch.float32, torch.bfloat16)
        and runs_native("decode_fp8", weight, scale)
        and not torch.compiler.is_compiling()  # a gradient being traced: fake tensors
    )
    buffer = torch.empty((min(step, rows), columns), dtype=dtype, device=weight.device)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        codes, out = weight[start:stop], buffer[: stop - start]
        part = scale if scale.ndim == 0 else scale[start // (block or 1) : -(-stop // (block or 1))]
        if native:
            _native.decode_fp8(codes, part, out, block)
        else:
            wide = dtype if dtype == torch.float64 else torch.float32
            out.copy_(codes.to(wide) * reference.expand_scale(part, codes.shape, SCALE_BLOCK).to(wide))
        yield start, stop, out


def compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if slow_bfloat16(x) else x.dtype


def linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:  # [..., K] -> [..., N]
    with torch.autocast(x.device.type, enabled=False):
        unit = _cpu_linear.unit_for(x, weight, scale, bias)
        if unit is not None:
            return _cpu_linear.call((x,), weight, (scale, scale_block(weight, scale)), bias, unit=unit)
        dtype = compute_dtype(x)
        tokens = x.reshape(-1, x.shape[-1]).to(dtype)
        bias = None if bias is None else bias.to(dtype)
        out = torch.empty((tokens.shape[0], weight.shape[0]), dtype=dtype, device=x.device)
        for start, stop, rows in decoded_blocks(weight, scale, dtype):
            if bias is None:
                torch.mm(tokens, rows.T, out=out[:, start:stop])
            else:
                torch.addmm(bias[start:stop], tokens, rows.T, out=out[:, start:stop])
        return out.to(x.dtype).view(*x.shape[:-1], weight.shape[0])


def linear_gradient(grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Gradients:
    """Gradients of x and bias; the weight and its scale are constants (adapters train beside them)."""
    dtype = compute_dtype(grad)
    flat = grad.reshape(-1, grad.shape[-1]).to(dtype)
    grad_x = torch.zeros(
        (flat.shape[0], weight.shape[1]), dtype=torch.promote_types(dtype, torch.float32), device=x.device
    )
    for start, stop, rows in decoded_blocks(weight, scale, dtype):
        grad_x = grad_x + flat[:, start:stop] @ rows
    grad_bias = None if bias is None else flat.sum(0).to(bias.dtype)
    return grad_x.to(x.dtype).view(x.shape), None, None, grad_bias


def epilogue(out: Tensor, gelu: bool, gate: Tensor | None, residual: Tensor | None) -> Tensor:
    """residual + gate * act(out), composed from torch operations."""
    out = F.gelu(out, approximate="tanh") if gelu else out
    out = out if gate is None else gate[:, None] * out
    return out if residual is None else residual + out


def epilogue_gradient(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    gelu: bool,
    gate: Tensor | None,
    residual: Tensor | None,
) -> Gradients:
    """Gradients of x, bias, gate and residual of linear_fp8; what the kernel does not keep is computed again."""
    grad_residual = None if residual is None else grad.to(residual.dtype)
    grad_gate, inner = None, grad
    if gelu or gate is not None:
        out = linear(x, weight, scale, bias)
        if gate is not None:
            active = F.gelu(out, approximate="tanh") if gelu else out
            grad_gate, inner = (grad * active).sum(1).to(gate.dtype), grad * gate[:, None]
        if gelu:
            inner = torch.ops.aten.gelu_backward(inner.to(out.dtype), out, approximate="tanh")
    grad_x, _, _, grad_bias = linear_gradient(inner.to(x.dtype), x, weight, scale, bias)
    return grad_x, None, None, grad_bias, None, grad_gate, grad_residual


def quantize_rows(x: Tensor, block: int) -> Fp8Rows:  # [..., K]
    """E4M3 codes with a scale a row, or a scale for every `block` columns of a row, composed from torch operations."""
    flat = x.reshape(-1, x.shape[-1])
    if not block:
        codes, scale = reference.quantize_fp8(flat)
        return Fp8Rows(codes.view(x.shape), scale.flatten())
    parts = [reference.quantize_fp8(part) for part in flat.split(block, -1)]
    codes = torch.cat([part for part, _ in parts], -1)
    return Fp8Rows(codes.view(x.shape), torch.stack([scale.flatten() for _, scale in parts]))
