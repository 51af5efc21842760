"""Linear layers on the CPU: which unit multiplies, when it is chosen over torch, and the calls of its kernels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hunyuan_ext.core import native, plain
from hunyuan_ext.core.dispatch import Plan, choice, kernel, takes
from hunyuan_ext.core.operands import in_rows, rows
from hunyuan_ext.core.types import BFLOAT, E4M3, FLOAT

kernel("linear", cpu=(BFLOAT,))
kernel("int8_linear", cpu=(FLOAT, BFLOAT))
kernel("decode_fp8", cpu=(E4M3,))

DOT, AMX = 0, 1  # hunyuan_linear_unit
NAMES = ("AVX-512 dot products", "AMX")
PANEL = 32  # columns that share a decision about the activation
SMALL = 1 << 20  # multiplications below which torch is left alone in auto mode: call overhead either way

# The kernel for each type of weight.
KERNELS = {BFLOAT: "linear", E4M3: "linear", torch.int8: "int8_linear"}
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


def find_row(weights: str, tokens: int | None = None) -> Row | None:
    """The row of the table that holds here for so many rows of x, or None where no unit multiplies these weights."""
    module = native.module
    if module is None:
        return None
    for row in TABLE:
        fits = tokens is None or row.most_rows is None or tokens <= row.most_rows
        if row.weights == weights and fits and module.has_linear_unit(row.unit, weights == "int8"):
            return row
    return None


def row_for(x: Tensor, weight: Tensor, *others: Tensor | None, small_too: bool = False) -> Row | None:
    """The row of the table whose kernel takes this call, or None: torch does. x [..., K], weight [N, K]."""
    name = KERNELS.get(weight.dtype)
    if name is None or torch.compiler.is_compiling() or not takes(name, x, weight, *others):
        return None
    tokens = x.numel() // max(x.shape[-1], 1)
    row = find_row(name_of(weight.dtype), tokens)
    if row is None or weight.shape[1] == 0:
        return None
    small = weight.dtype == BFLOAT and tokens * weight.numel() < SMALL and not small_too
    return row if native.insisted() or (row.faster and not small) else None


def epilogue_row(
    inputs: Inputs,
    weight: Tensor,
    bias: Tensor | None,
    gate: Tensor | None,
    residual: Tensor | None,
    out: Tensor | None,
    scale: Tensor | None = None,
) -> Row | None:
    """The row whose kernel does the whole call, epilogue and all, or None."""
    x = inputs[0]
    if any(other is not None and other.dtype != x.dtype for other in (*inputs, gate, residual, out)):
        return None
    # Without copies and gradients to look after, a small call costs less than torch's.
    small_too = not torch.is_grad_enabled() and runs_as_is(inputs, weight, (bias, gate, residual, out))
    return row_for(x, weight, *inputs[1:], bias, gate, residual, out, scale, small_too=small_too)


def runs_as_is(inputs: Inputs, weight: Tensor, others: tuple[Tensor | None, ...]) -> bool:
    """True if the kernel takes these bfloat16 tensors without views and copies; others: bias, gate, residual, out."""
    first, bias = inputs[0], others[0]
    return (
        (first.ndim == 3 or (first.ndim == 2 and others[1:] == (None, None, None)))
        and all(x is None or in_rows(x) for x in (*inputs, weight, *others))
        and (bias is None or bias.dtype == BFLOAT)
    )


class Linear:
    """The kernel for bfloat16 weights and tensors like those of one plan."""

    def __init__(self, row: Row, inputs: Inputs, weight: Tensor, others: tuple[Tensor | None, ...], begin: int | None):
        """others: bias, gate, residual, out; begin: the first column with an activation."""
        self.unit, self.begin, self.shape = row.unit, begin, (*inputs[0].shape[:-1], weight.shape[0])
        self.last = weight.shape[0] if begin is None else begin
        self.run = self.call if runs_as_is(inputs, weight, others) else self.copy_and_call

    def call(self, inputs, weight, bias, _, gate, residual, out):
        if out is None:
            out = torch.empty(self.shape, dtype=BFLOAT, device="cpu")
        threads = torch.get_num_threads()
        native.module.linear(inputs, weight, None, bias, gate, residual, out, self.last, self.unit, threads)
        return out

    def copy_and_call(self, inputs, weight, bias, _, gate, residual, out):
        return call(inputs, weight, None, bias, gate, residual, out, self.begin, unit=self.unit)


def plan(row: Row, inputs: Inputs, weight: Tensor, others: tuple[Tensor | None, ...], begin: int | None) -> Plan:
    """The plan of a call with bfloat16 weights for which `epilogue_row` gave a row."""
    return Plan(Linear(row, inputs, weight, others, begin).run, "linear", reason_of(row))


def reason_of(row: Row) -> str:
    return f"{NAMES[row.unit]}: {row.reason}"


def as_tokens(x: Tensor) -> Tensor:  # [..., K] -> [B, S, K]
    """Three dimensions, the innermost contiguous; a view where that is possible."""
    x = rows(x)
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
        out = torch.empty((*first.shape[:-1], columns), dtype=first.dtype, device="cpu")
    tokens: Inputs = tuple(map(as_tokens, inputs))
    operands: tuple[Tensor, Tensor | int] | None = scales
    threads = torch.get_num_threads()
    if weight.dtype == torch.int8 and scales is not None:
        count = tokens[0].shape[0] * tokens[0].shape[1]
        codes = torch.empty((count, weight.shape[1]), dtype=torch.int8, device="cpu")
        x_scale = torch.empty(count, dtype=FLOAT, device="cpu")
        native.module.quantize_int8(tokens, codes, x_scale, unit == DOT, threads)
        tokens = (codes.view(*tokens[0].shape[:2], weight.shape[1]),)
        operands = scales[0].reshape(-1), x_scale
    elif scales is not None:
        operands = scales[0] if scales[0].numel() > 1 else scales[0].reshape(()), scales[1]
    native.module.linear(
        tokens,
        rows(weight),
        operands,
        None if bias is None else rows(bias.to(first.dtype)),
        None if gate is None else rows(gate),
        None if residual is None else as_tokens(residual),
        as_tokens(out),
        columns if activation_from is None else activation_from,
        unit,
        threads,
    )
    return out


@plain.constant_while_tracing
def has_onednn() -> bool:
    """True if torch offers oneDNN's linear with an activation in its epilogue."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def fits_onednn(inputs: Inputs, weight: Tensor, bias: Tensor | None) -> bool:
    """True if oneDNN's fused linear and GELU is the fastest form: large products in float32, with AVX-512.

    With AVX2 its GELU takes longer than the product, and torch's linear with the own GELU is faster. (In bfloat16 too;
    but where there is a unit for that, the own kernel is faster, and where not, torch is.)
    """
    x = inputs[0]
    if native.mode == "reference" or torch.compiler.is_compiling() or plain.device_type(x) != "cpu":
        return False
    if native.isa() == "avx2" and fits_gelu(inputs, weight, bias):
        return False
    large = x.numel() // max(x.shape[-1], 1) >= 16 and x.numel() * weight.shape[0] >= SMALL
    return large and x.dtype == weight.dtype == FLOAT and has_onednn() and plain.may_bypass(*inputs, weight, bias)


def onednn_gelu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")


def fits_gelu(inputs: Inputs, weight: Tensor, bias: Tensor | None) -> bool:
    """True if the GELU kernel takes torch's product of these."""
    alike = all(x is None or x.dtype == weight.dtype for x in (*inputs, bias))
    return alike and not torch.compiler.is_compiling() and takes("gelu", *inputs, weight, bias)


def describe(weights: str, name: str, fallback: str, device: str, dtype: torch.dtype) -> dict:
    """Entry of `capabilities` for a linear layer: the unit that the table names, else torch."""
    picked = choice(name, device, dtype)
    row = find_row(weights) if picked.native else None
    if row is None:
        reason = "no unit for it in this build or processor" if picked.native else picked.reason
        return {"implementation": "torch", "reason": f"{fallback}; {reason}"}
    unit = NAMES[row.unit]
    if not (row.faster or native.insisted()):
        return {"implementation": "torch", "reason": f"{fallback}; own {unit} kernel not chosen: {row.reason}"}
    return {"implementation": "native", "reason": f"own {unit} kernel: {row.reason}"}
