"""Linear layers with an epilogue of activation, gate and residual: plain and int8 weights (FP8: fp8_linear.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext.core import check, native, plain
from hunyuan_ext.core.dispatch import DESCRIPTIONS, Op, Plan, choice, takes, trains_native
from hunyuan_ext.core.operands import in_rows
from hunyuan_ext.core.types import FLOAT
from hunyuan_ext.linear import autograd, blas, cpu, quantize
from hunyuan_ext.norm import gate_residual, kernels

ACTIVATIONS = (None, "gelu_tanh")
Inputs = tuple[Tensor, ...]


def linear(
    x: Tensor | Sequence[Tensor],  # [..., K], or two whose last dimensions together are K
    weight: Tensor,  # [N, K]
    bias: Tensor | None = None,  # [N]
    *,
    activation: str | None = None,
    activation_from: int = 0,
    gate: Tensor | None = None,  # [B, N]; x is then [B, S, K]
    residual: Tensor | None = None,  # [..., N]
    out: Tensor | None = None,  # [..., N]; may be `residual`
) -> Tensor:  # [..., N]
    """residual + gate * act(x @ weight.T + bias), act (None or "gelu_tanh") on columns from activation_from on.

    Two inputs are multiplied where they are, without a concatenated copy. `out` receives the result, where no gradient
    is wanted. Native for bfloat16 on CPUs with AMX: weights stay as they are in memory, sums are float32, one rounding
    at the end. Elsewhere, for small products and under autograd or autocast: torch's linear, then the epilogue.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    inputs = (x,) if isinstance(x, Tensor) else as_inputs(x)
    run = LINEAR.plan((*inputs, weight, bias, gate, residual, out), (activation, activation_from))
    return run(inputs, weight, bias, activation_from, gate, residual, out)


def int8_linear(
    x: Tensor | Sequence[Tensor],  # [..., K], or two whose last dimensions together are K
    w8: Tensor,  # [N, K] int8
    scale: Tensor,  # fp32 [N, 1]
    bias: Tensor | None = None,  # [N]
    *,
    activation: str | None = None,
    activation_from: int = 0,
    gate: Tensor | None = None,  # [B, N]; x is then [B, S, K]
    residual: Tensor | None = None,  # [..., N]
    out: Tensor | None = None,  # [..., N]; may be `residual`
) -> Tensor:  # [..., N]
    """residual + gate * act(q(x) @ (w8 * scale).T + bias), q the int8 quantization of each row of x: W8A8.

    q is that of `quantize_int8`; the other arguments are those of `linear`. Integer sums are exact. Native for float32
    and bfloat16 on CPUs with AMX or VNNI; composed elsewhere. Gradients flow to x as if it were not rounded, and to
    bias, gate and residual.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    inputs = as_inputs(x)
    run = INT8_LINEAR.plan((*inputs, w8, scale, bias, gate, residual, out), (activation, activation_from))
    return run(inputs, w8, scale, bias, activation_from, gate, residual, out)


def split_gelu(
    x: Tensor,  # [..., C]
    split: int,
) -> tuple[Tensor, Tensor]:  # [..., split], [..., C - split]
    """(x[..., :split], gelu(x[..., split:])), tanh form: what a fused QKV and MLP projection is cut into.

    Native on CPUs with AVX2 or AVX-512: for float32 and bfloat16 without gradients, for bfloat16 with them; else torch.
    Raises TypeError or ValueError, naming the argument, for anything but a floating-point tensor or a split outside it.
    """
    return SPLIT_GELU.plan((x,), (split,))(x, split)


def plan_split_gelu(tensors: tuple, constants: tuple) -> Plan:
    (x,), (split,) = tensors, constants
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point or x.ndim < 1:
        raise TypeError(f"x: a floating-point tensor [..., C] is needed, got {check.described(x)}")
    if not 0 <= split <= x.shape[-1]:
        raise ValueError(f"split: {split} is not within the {x.shape[-1]} columns of x")
    if trains_native(x) and x.is_contiguous():
        return Plan(autograd.SplitGelu.apply, "gelu", "own forward and backward passes")
    if takes("gelu", x) and in_rows(x) and not torch.compiler.is_compiling():
        return Plan(kernels.split_gelu, "gelu", choice("gelu", "cpu", x.dtype).reason)
    return Plan(_torch_split_gelu, "torch")


def _torch_split_gelu(x: Tensor, split: int) -> tuple[Tensor, Tensor]:
    head, tail = x.tensor_split((split,), dim=-1)
    return head, _torch_gelu(tail)


def _torch_gelu(product: Tensor) -> Tensor:
    return F.gelu(product, approximate="tanh")


def plan_linear(tensors: tuple, constants: tuple) -> Plan:
    *parts, weight, bias, gate, residual, out = tensors
    activation, activation_from = constants
    inputs: Inputs = tuple(parts)
    check_inputs(inputs)
    check.tensor("weight", weight, "N K")
    check_epilogue(inputs, weight, bias, activation, activation_from, gate, residual, out)
    row = cpu.epilogue_row(inputs, weight, bias, gate, residual, out)
    if row is not None:
        return cpu.plan(row, inputs, weight, (bias, gate, residual, out), activation_from if activation else None)
    whole = activation == "gelu_tanh" and activation_from == 0
    if whole and cpu.fits_onednn(inputs, weight, bias):
        return Plan(_then_epilogue(cpu.onednn_gelu, None), "torch", "oneDNN, with the GELU in its epilogue")
    planned = _plan_blas(inputs, weight, bias, activation, activation_from, gate, residual, out)
    if planned is not None:
        return planned
    simple = activation is None or (whole and not plain.wants_gradient(*inputs, weight, bias))
    own_gelu = whole and cpu.fits_gelu(inputs, weight, bias)
    gelu, names = (kernels.gelu_, "torch, gelu") if own_gelu else (_torch_gelu if whole else None, "torch")
    if simple and gate is None and residual is None and out is None:
        return Plan(_float_linear(len(inputs) > 1, gelu, False), names)
    if simple and out is None and gates(inputs, (weight, bias), gate, residual):
        return Plan(_float_linear(len(inputs) > 1, gelu, True), f"{names}, gate_residual")
    return Plan(_then_epilogue(F.linear, activation), "torch")


def _plan_blas(
    inputs: Inputs, weight: Tensor, bias: Tensor | None, activation: str | None, activation_from: int,
    gate: Tensor | None, residual: Tensor | None, out: Tensor | None,
) -> Plan | None:  # fmt: skip
    """A plan on CUDA for what torch's linear alone does not do."""
    gated, two = gate is not None or residual is not None, len(inputs) > 1
    if not (gated or two or activation or out is not None) or (activation and activation_from):
        return None
    if not blas.takes(inputs, weight, bias, gate, residual, out):
        return None
    if gated and not gates(inputs, (weight, bias), gate, residual):
        return None
    direct = out is not None and out.is_contiguous()
    run = blas.runner(two, activation == "gelu_tanh", gated, direct)
    return Plan(run, "torch, gate_residual" if gated else "torch", "cuBLAS, with what its epilogue takes")


def _then_epilogue(product: Callable[..., Tensor], activation: str | None) -> Callable[..., Tensor]:
    """A product, then the epilogue."""

    def run(inputs, weight, bias, activation_from, gate, residual, out):
        x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, -1)
        return composed(product(x, weight, bias), activation, activation_from, gate, residual, out)

    return run


def gates(inputs: Inputs, weights: Inputs | tuple, gate: Tensor | None, residual: Tensor | None) -> bool:
    """True if the kernel of `gate_residual` takes a product in the inputs' dtype, a gate and a residual as they are.

    weights: what else the product is made of.
    """
    if gate is None or residual is None or torch.compiler.is_compiling():
        return False
    return (
        takes("gate_residual", residual, gate, *inputs, *weights)
        and residual.dtype == gate.dtype == inputs[0].dtype
        and in_rows(residual)
        and in_rows(gate)
    )


def _float_linear(two: bool, gelu: Callable[[Tensor], Tensor] | None, gated: bool) -> Callable[..., Tensor]:
    """torch's product of one input or two, a GELU, and the kernel of a gated residual."""

    def run(inputs, weight, bias, _, gate, residual, __):
        product = F.linear(torch.cat(inputs, -1) if two else inputs[0], weight, bias)
        if gelu is not None:
            product = gelu(product)
        if not gated:
            return product
        return kernels.gate_residual(residual, product, gate, product if product.is_contiguous() else None)

    return run


def plan_int8_linear(tensors: tuple, constants: tuple) -> Plan:
    *parts, w8, scale, bias, gate, residual, out = tensors
    activation, activation_from = constants
    inputs: Inputs = tuple(parts)
    check_inputs(inputs)
    _check_int8(inputs, w8, scale)
    check_epilogue(inputs, w8, bias, activation, activation_from, gate, residual, out, "w8")
    narrow = autocast_dtype(w8)
    row = None if narrow else cpu.epilogue_row(inputs, w8, bias, gate, residual, out, scale)
    if row is not None:
        begin = activation_from if activation else None

        def run(inputs, w8, scale, bias, _, gate, residual, out):
            return cpu.call(inputs, w8, (scale, 0), bias, gate, residual, out, begin, unit=row.unit)

        return Plan(run, "int8_linear", cpu.reason_of(row))
    own = narrow or cpu.row_for(inputs[0], w8, scale, bias) is not None
    eager = quantize.int8_product if own else quantize.composed_int8_product
    product = coded_product(inputs, bias, torch.ops.hunyuan_ext.int8_linear, eager)
    return Plan(coded_then_epilogue(product, activation, narrow), "torch")


def autocast_dtype(weight: Tensor) -> torch.dtype | None:
    """Dtype that autocast casts a product's inputs to on this device, if it does."""
    device = plain.device_type(weight)
    return torch.get_autocast_dtype(device) if plain.autocast_enabled(device) else None


def coded_product(
    inputs: Inputs, bias: Tensor | None, library: Callable[..., Tensor], eager: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    """Product with weights of one byte, where no kernel does the whole call."""
    if torch.compiler.is_compiling() or plain.wants_gradient(*inputs, bias):
        return library
    return _meta_product if inputs[0].is_meta else eager


def _meta_product(x: Tensor, w8: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], w8.shape[0]))


def coded_then_epilogue(
    product: Callable[..., Tensor], activation: str | None, narrow: torch.dtype | None
) -> Callable[..., Tensor]:
    """A product with weights of one byte, of inputs in the dtype `narrow` where it is given, then the epilogue."""

    def run(inputs, w8, scale, bias, activation_from, gate, residual, out):
        if narrow is not None:
            inputs = tuple(x.to(narrow) for x in inputs)
        x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, -1)
        return composed(product(x, w8, scale, bias), activation, activation_from, gate, residual, out)

    return run


def composed(
    product: Tensor,  # [..., N]
    activation: str | None,
    activation_from: int,
    gate: Tensor | None,
    residual: Tensor | None,
    out: Tensor | None,
) -> Tensor:
    """The epilogue in torch operations and `gate_residual`."""
    if activation == "gelu_tanh":
        head, tail = split_gelu(product, activation_from)
        product = torch.cat((head, tail), -1) if activation_from else tail
    if gate is not None and residual is not None:
        product = gate_residual(residual, product, gate)
    elif gate is not None:
        product = gate[:, None] * product
    elif residual is not None:
        product = residual + product
    return product if out is None else out.copy_(product)


def as_inputs(x: Tensor | Sequence[Tensor]) -> Inputs:
    """x as a tuple."""
    return tuple(x) if isinstance(x, list | tuple) else (x,)  # type: ignore[return-value]


def check_inputs(inputs: Inputs) -> None:
    """Raises unless these are one or two tensors [..., K_i] of one dtype, device and leading shape."""
    if not 1 <= len(inputs) <= 2:
        raise ValueError(f"x: one tensor or two are needed, got {len(inputs)}")
    for x in inputs:
        if not isinstance(x, Tensor) or not x.dtype.is_floating_point or x.ndim < 1:
            raise TypeError(f"x: a floating-point tensor [..., K] is needed, got {check.described(x)}")
    first, last = inputs[0], inputs[-1]
    if first.shape[:-1] != last.shape[:-1] or first.dtype != last.dtype or first.device != last.device:
        raise ValueError(
            f"x: its two tensors must agree in all but the last dimension, got {check.described(first)} on "
            f"{first.device} and {check.described(last)} on {last.device}"
        )


def check_epilogue(
    inputs: Inputs,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    activation_from: int,
    gate: Tensor | None,
    residual: Tensor | None,
    out: Tensor | None,
    name: str = "weight",
) -> None:
    x, columns, rows = inputs[0], sum(part.shape[-1] for part in inputs), weight.shape[0]
    if columns != weight.shape[1]:
        raise ValueError(f"x: its last dimension is {columns}, but {name} has {weight.shape[1]} columns")
    if weight.device != x.device:
        raise ValueError(f"{name}: is on {weight.device}, x on {x.device}; move it there")
    check.one_of("activation", activation, ACTIVATIONS)
    panel = cpu.PANEL
    if not 0 <= activation_from <= rows or activation_from % panel:
        raise ValueError(
            f"activation_from: {activation_from} is not a multiple of {panel} between 0 and the {rows} rows of {name}"
        )
    if bias is not None:
        check.like("bias", bias, "N", (rows,), x)
    if gate is not None:
        if x.ndim != 3:
            raise ValueError(f"gate: needs x as [B, S, K], got shape {list(x.shape)}")
        check.like("gate", gate, "B N", (x.shape[0], rows), x)
    for label, value in (("residual", residual), ("out", out)):
        if value is not None and tuple(value.shape) != (*x.shape[:-1], rows):
            raise ValueError(f"{label}: shape {list(value.shape)}, but {[*x.shape[:-1], rows]} is needed")
    if out is not None and (out.dtype != x.dtype or out.device != x.device or out.stride(-1) not in (0, 1)):
        raise ValueError(f"out: must have x's dtype and device and a contiguous last dimension, got {out.dtype}")


def _check_int8(inputs: Inputs, w8: Tensor, scale: Tensor) -> None:
    if not isinstance(w8, Tensor) or w8.dtype != torch.int8 or w8.ndim != 2:
        raise TypeError(f"w8: an int8 tensor [N, K] is needed, got {check.described(w8)}; quantize_int8 makes it")
    check_scale(inputs, scale)
    if tuple(scale.shape) != (w8.shape[0], 1):
        raise ValueError(f"scale: shape {list(scale.shape)}, but [{w8.shape[0]}, 1] is needed")


def check_scale(inputs: Inputs, scale: Tensor) -> None:
    if not isinstance(scale, Tensor) or scale.dtype != torch.float32:
        raise TypeError(f"scale: a float32 tensor is needed, got {check.described(scale)}")
    if scale.device != inputs[0].device:
        raise ValueError(f"scale: is on {scale.device}, x on {inputs[0].device}; move it there")


def describe_linear(device: str, dtype: torch.dtype) -> dict:
    """Entry of `capabilities` for `linear`."""
    if device == "cpu" and dtype == FLOAT and native.mode != "reference":
        fused = cpu.has_onednn() and not (native.isa() == "avx2" and choice("gelu", "cpu", FLOAT).native)
        gelu = "; with GELU oneDNN's, which fuses the two" if fused else "; the GELU by the own kernel"
        return {"implementation": "torch", "reason": f"torch's linear{gelu}"}
    return cpu.describe("bfloat16", "linear", "torch's linear", device, dtype)


def describe_int8(device: str, dtype: torch.dtype) -> dict:
    """Entry of `capabilities` for `int8_linear`."""
    return cpu.describe("int8", "int8_linear", "torch's integer matmul", device, dtype)


LINEAR, INT8_LINEAR, SPLIT_GELU = Op(plan_linear), Op(plan_int8_linear), Op(plan_split_gelu)
DESCRIPTIONS["linear"], DESCRIPTIONS["int8_linear"] = describe_linear, describe_int8
