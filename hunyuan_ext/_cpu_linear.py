"""Linear layers on the CPU: which unit multiplies, when it is chosen over torch, and the calls of its kernels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hunyuan_ext import _backend, _native
from hunyuan_ext._backend import BFLOAT, FLOAT

DOT, AMX = 0, 1  # hunyuan_linear_unit
NAMES = ("AVX-512 dot products", "AMX")
PANEL = 32  # columns that share a decision about the activation
SMALL = 1 << 20  # multiplications below which torch is left alone in auto mode: call overhead either way

# What `_backend.KERNELS` calls the kernel for each type of weight.
OPS = {BFLOAT: "linear", torch.float8_e4m3fn: "linear", torch.int8: "int8_linear"}
Inputs = tuple[Tensor, ...]  # one or two, [B, S, K] each, side by side


class Row(NamedTuple):
    """One row of the decision table: which weights, on which unit, for how many rows of x is the kernel chosen?"""

    weights: str  # "bfloat16", "float8_e4m3fn" or "int8"
    unit: int
    most_rows: int | None  # of x; None: any number
    faster: bool
    reason: str


# The first row that fits is taken; docs/kernels/linear_cpu.md has the measurements.
TABLE = (
    Row(
        "bfloat16", AMX, None, True, "as fast as oneDNN with packed weights, GELU, gate and residual beside the product"
    ),
    Row("bfloat16", DOT, None, False, "oneDNN is at 80 to 92 % of the peak of vdpbf16ps"),
    Row("float8_e4m3fn", AMX, None, True, "decoded in cache on the way to the tiles"),
    Row("float8_e4m3fn", DOT, None, True, "decoded in cache on the way to the dot products"),
    Row("int8", AMX, None, True, "twice the products of bfloat16 a tile"),
    Row("int8", DOT, None, True, "vpdpbusd: four products a lane"),
)


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def find_row(weights: str, rows: int | None = None) -> Row | None:
    """The row of the table that holds here for so many rows of x, or None where no unit multiplies these weights."""
    module = _backend.module
    if module is None:
        return None
    for row in TABLE:
        fits = rows is None or row.most_rows is None or rows <= row.most_rows
        if row.weights == weights and fits and module.has_linear_unit(row.unit, weights == "int8"):
            return row
    return None


def unit_for(x: Tensor, weight: Tensor, *others: Tensor | None) -> int | None:
    """The unit whose kernel takes this call, or None: torch does. x [..., K], weight [N, K], others plain tensors."""
    op = OPS.get(weight.dtype)
    if op is None or torch.compiler.is_compiling() or not _backend.runs_native(op, x, weight, *others):
        return None
    rows = x.numel() // max(x.shape[-1], 1)
    row = find_row(name_of(weight.dtype), rows)
    if row is None or weight.shape[1] == 0:
        return None
    small = weight.dtype == BFLOAT and rows * weight.numel() < SMALL
    return row.unit if _backend.insisted() or (row.faster and not small) else None


def as_tokens(x: Tensor) -> Tensor:  # [..., K] -> [B, S, K]
    """Three dimensions, the innermost contiguous; a view where that is possible."""
    x = _native.rows(x)
    return x if x.ndim == 3 else x.reshape(1, -1, x.shape[-1])


def call(
    inputs: Inputs,
    weight: Tensor,  # [N, K]
    scales: tuple[Tensor, int] | None,  # of float8 weights: scale, its block; of int8 weights: scale [N, 1], unused
    bias: Tensor | None,  # [N]
    gate: Tensor | None = None,  # [B, N]
    residual: Tensor | None = None,  # [..., N]
    out: Tensor | None = None,  # [..., N]
    activation_from: int | None = None,  # None: no activation
    *,
    unit: int,
) -> Tensor:  # [..., N]
    """residual + gate * gelu(x weight^T + bias), the GELU on columns from activation_from on; in `out` where given."""
    columns, first = weight.shape[0], inputs[0]
    if out is None:
        out = torch.empty((*first.shape[:-1], columns), dtype=first.dtype)
    tokens: Inputs = tuple(map(as_tokens, inputs))
    operands: tuple[Tensor, Tensor | int] | None = scales
    threads = torch.get_num_threads()
    if weight.dtype == torch.int8 and scales is not None:
        rows = tokens[0].shape[0] * tokens[0].shape[1]
        codes = torch.empty((rows, weight.shape[1]), dtype=torch.int8)
        x_scale = torch.empty(rows, dtype=FLOAT)
        _native._C.quantize_int8(tokens, codes, x_scale, unit == DOT, threads)
        tokens = (codes.view(*tokens[0].shape[:2], weight.shape[1]),)
        operands = scales[0].reshape(-1), x_scale
    elif scales is not None:
        operands = scales[0] if scales[0].numel() > 1 else scales[0].reshape(()), scales[1]
    _native._C.linear(
        tokens,
        _native.rows(weight),
        operands,
        None if bias is None else bias.to(first.dtype),
        None if gate is None else _native.rows(gate),
        None if residual is None else as_tokens(residual),
        as_tokens(out),
        columns if activation_from is None else activation_from,
        unit,
        threads,
    )
    return out


def has_onednn() -> bool:
    """Whether torch offers oneDNN's linear with an activation in its epilogue."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


setattr(has_onednn, "_dynamo_marked_constant", True)  # noqa: B010


def fits_onednn(inputs: Inputs, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN's fused linear and GELU is at least as fast as torch's two operations: large products in float32.

    (In bfloat16 too; but where there is a unit for that, the own kernel is faster, and where not, torch is.)
    """
    x = inputs[0]
    if _backend.mode == "reference" or torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    large = x.numel() // max(x.shape[-1], 1) >= 16 and x.numel() * weight.shape[0] >= SMALL
    return large and x.dtype == weight.dtype == FLOAT and has_onednn() and _backend.is_plain(*inputs, weight, bias)


def onednn_gelu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")
