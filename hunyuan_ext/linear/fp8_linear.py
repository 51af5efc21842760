"""FP8 linear layers: weights of one byte, an epilogue of activation, gate and residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from hunyuan_ext.core import check, plain
from hunyuan_ext.core.dispatch import DESCRIPTIONS, Op, Plan, around_torch, choice, takes
from hunyuan_ext.core.types import BFLOAT, E4M3, SCALE_BLOCK, Fp8Rows
from hunyuan_ext.linear import (
    ACTIVATIONS,
    Inputs,
    autocast_dtype,
    check_epilogue,
    check_inputs,
    check_scale,
    coded_product,
    coded_then_epilogue,
    cpu,
    cuda,
    gates,
    quantize,
)
from hunyuan_ext.linear.quantize import FP8_DTYPES, one_scale
from hunyuan_ext.norm import kernels, layer_norm_modulate

ACTIVATION_QUANT = ("dynamic_row", "none")
Part = Tensor | Fp8Rows
Parts = tuple[Part, ...]


def fp8_linear(
    x: Part | Sequence[Part],  # [..., K], plain or quantized, or two that are K together
    w8: Tensor,  # [N, K] float8_e4m3fn (or e5m2)
    scale: Tensor,  # fp32: [], [N, 1] or [ceil(N / 128), ceil(K / 128)]
    bias: Tensor | None = None,  # [N]
    *,
    activation: str | None = None,
    activation_from: int = 0,
    gate: Tensor | None = None,  # [B, N]; x is then [B, S, K]
    residual: Tensor | None = None,  # [..., N]
    out: Tensor | None = None,  # [..., N]; may be `residual`
    activation_quant: str = "dynamic_row",
) -> Tensor:  # [..., N]
    """residual + gate * act(x @ (w8 * scale).T + bias); x, activation, activation_from and out as in `linear`.

    Devices with FP8 tensor cores (compute capability 8.9 and 9.0) multiply bfloat16 x there, W8A8, the epilogue in
    float32: activation_quant="dynamic_row" quantizes x with a scale a row, from K = 8192 on a scale for every 128
    columns of a row; "none" forbids that. Up to 16 rows are not quantized: the weight is decoded in registers.
    CPUs with AMX or AVX512-BF16 decode weights in cache inside the product of bfloat16 x; elsewhere they are decoded
    a block of rows at a time, into a buffer of 2 MB: there is never a second copy of them. Gradients flow to x, bias,
    gate and residual, not to w8 and scale. Under autocast x is cast to its dtype. x may come quantized
    (layer_norm_modulate_fp8, fp8_linear_fp8), also as one of two parts.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    parts = (x,) if isinstance(x, Fp8Rows) or not isinstance(x, list | tuple) else tuple(x)
    coded, flat = flattened(parts)
    options = coded, activation, activation_from, activation_quant
    run = FP8_LINEAR.plan((*flat, w8, scale, bias, gate, residual, out), options)
    return run(parts, w8, scale, bias, activation_from, gate, residual, out)


def fp8_linear_fp8(
    x: Part,  # [..., K], plain or quantized
    w8: Tensor,  # [N, K] float8_e4m3fn
    scale: Tensor,  # fp32: [], [N, 1] or [ceil(N / 128), ceil(K / 128)]
    bias: Tensor | None = None,  # [N]
    *,
    activation: str | None = None,
) -> Part:  # [..., N], quantized with a scale for every 128 columns of a row, or plain
    """act(x @ (w8 * scale).T + bias), quantized in the epilogue for the fp8_linear that follows, where that is native.

    It saves writing the result in bfloat16, reading it and writing the codes: what the wide layer of an MLP gains
    most from. Where there is no FP8 product, or gradients flow, the plain result of fp8_linear.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    coded, flat = flattened((x,))
    return FP8_LINEAR_FP8.plan((*flat, w8, scale, bias), (coded, activation))(x, w8, scale, bias)


def layer_norm_modulate_fp8(
    x: Tensor,  # [B, S, C]
    shift: Tensor,  # [B, C]
    scale: Tensor,  # [B, C]
    *,
    eps: float = 1e-6,
) -> Part:  # [B, S, C], quantized with a scale a row, or plain
    """layer_norm_modulate, quantized in the same pass for the fp8_linear that follows, where that is native.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    return LAYER_NORM_FP8.plan((x, shift, scale), (eps,))(x, shift, scale, eps)


def flattened(parts: Parts) -> tuple[tuple[bool, ...], tuple]:
    """Which parts are quantized, and all their tensors."""
    if len(parts) == 1 and not isinstance(parts[0], Fp8Rows):
        return (False,), parts
    coded = tuple(isinstance(part, Fp8Rows) for part in parts)
    return coded, tuple(tensor for part in parts for tensor in _tensors(part))


def _tensors(part: Part) -> tuple[Tensor, ...]:
    return tuple(part) if isinstance(part, Fp8Rows) else (part,)


def as_parts(coded: tuple[bool, ...], flat: Sequence[Tensor]) -> Parts:
    """Parts that `flattened` took apart, joined again."""
    rest = iter(flat)
    return tuple(Fp8Rows(next(rest), next(rest)) if rows else next(rest) for rows in coded)


def plan_fp8_linear(tensors: tuple, constants: tuple) -> Plan:
    *flat, w8, scale, bias, gate, residual, out = tensors
    coded, activation, activation_from, activation_quant = constants
    parts = as_parts(coded, flat)
    if any(coded):
        return _plan_rows(parts, w8, scale, bias, activation, activation_from, gate, residual)
    inputs = cast(Inputs, parts)
    check_inputs(inputs)
    _check_weight(inputs, w8, scale)
    check_epilogue(inputs, w8, bias, activation, activation_from, gate, residual, out, "w8")
    check.one_of("activation_quant", activation_quant, ACTIVATION_QUANT)
    narrow = autocast_dtype(w8)
    if narrow is None:
        planned = _plan_cpu(inputs, w8, scale, bias, activation, activation_from, gate, residual, out)
        if planned is not None:
            return planned
        plain_call = activation_from == 0 and out is None and activation_quant != "none"
        if plain_call and _takes(inputs, w8, scale, bias, gate, residual):
            return _plan_cuda(inputs, w8, scale, bias, activation == "gelu_tanh", gate, residual)
        planned = _plan_decoded(inputs, w8, one_scale(scale), bias, activation, activation_from, gate, residual, out)
        if planned is not None:
            return planned
    product = coded_product(inputs, bias, torch.ops.hunyuan_ext.fp8_linear, quantize.fp8_product)

    def of_one_scale(x, w8, scale, bias):
        return product(x, w8, one_scale(scale), bias)

    return Plan(coded_then_epilogue(of_one_scale, activation, narrow), "torch")


def _plan_cpu(
    inputs: Inputs, w8: Tensor, scale: Tensor, bias: Tensor | None, activation: str | None, activation_from: int,
    gate: Tensor | None, residual: Tensor | None, out: Tensor | None,
) -> Plan | None:  # fmt: skip
    block, begin = quantize.scale_block(w8, one_scale(scale)), activation_from if activation else None
    if block and len(inputs) > 1:
        return None
    row = cpu.epilogue_row(inputs, w8, bias, gate, residual, out, scale)
    if row is None:
        return None

    def run(inputs, w8, scale, bias, _, gate, residual, out):
        return cpu.call(inputs, w8, (scale, block), bias, gate, residual, out, begin, unit=row.unit)

    return Plan(run, "linear", cpu.reason_of(row))


def _plan_decoded(
    inputs: Inputs, w8: Tensor, scale: Tensor, bias: Tensor | None, activation: str | None, activation_from: int,
    gate: Tensor | None, residual: Tensor | None, out: Tensor | None,
) -> Plan | None:  # fmt: skip
    """torch's products with decoded blocks of the weight, then kernels for the epilogue, where there is one."""
    x, gelu, bare = inputs[0], activation is not None, gate is None and residual is None
    decoder = quantize.Decoder(w8, scale, quantize.compute_dtype(x))
    if (
        (gelu and (activation_from or not takes("gelu", *inputs, w8, scale, bias)))
        or not (bare or gates(inputs, (w8, scale, bias), gate, residual))
        or out is not None
        or plain.device_type(x) != "cpu"
        or not (decoder.by_kernel and takes("decode_fp8", w8, scale, *inputs, bias))
        or cpu.row_for(x, w8, scale, bias) is not None
    ):
        return None

    def run(inputs, w8, scale, bias, _, gate, residual, __):
        x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, -1)
        product = quantize.decoded_product(decoder, x, w8, one_scale(scale), bias)
        product = kernels.gelu_(product) if gelu else product
        return product if bare else kernels.gate_residual(residual, product, gate)

    names = ["decode_fp8", "torch", *["gelu"] * gelu, *["gate_residual"] * (not bare)]
    reason = f"decoded a block of rows at a time, products in {str(decoder.dtype).removeprefix('torch.')}"
    return Plan(run, ", ".join(names), reason)


def _takes(inputs: Inputs, w8: Tensor, scale: Tensor, *others: Tensor | None) -> bool:
    """True if the FP8 product takes plain inputs; others: bias, gate, residual."""
    some = any(x.numel() > 0 for x in inputs)
    return some and takes("linear_fp8", *inputs, w8, scale, *others) and cuda.linear_fits(w8, *others)


def _plan_cuda(
    inputs: Inputs, w8: Tensor, scale: Tensor, bias: Tensor | None, gelu: bool, gate: Tensor | None,
    residual: Tensor | None,
) -> Plan:  # fmt: skip
    if torch.compiler.is_compiling():

        def library(inputs, w8, scale, bias, _, gate, residual, __):
            x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, -1)
            return torch.ops.hunyuan_ext.linear_fp8(x, w8, one_scale(scale), bias, gelu, gate, residual)

        return Plan(library, "hunyuan_ext::linear_fp8")
    reason = f"W8A8 on FP8 tensor cores, {_reason(inputs[0])}"
    if len(inputs) == 1 and cuda.few_rows_fit(inputs[0], scale):
        few = cuda.FewRowsProduct(inputs[0], w8, scale, bias, gelu, gate, residual)
        return Plan(few.run, "linear_few_rows", f"{cuda.FEW_ROWS} rows or fewer: the weight decoded in registers")
    if len(inputs) == 1:
        product = cuda.Fp8Product(inputs[0], w8, scale, bias, gelu, gate, residual)
        return Plan(product.run, "quantize_rows, linear_fp8", reason)

    def run(inputs, w8, scale, bias, _, gate, residual, __):
        return cuda.plain_linear(torch.cat(inputs, -1), w8, one_scale(scale), bias, gelu, gate, residual)

    return Plan(run, "quantize_rows, linear_fp8", reason)


def _plan_rows(
    parts: Parts, w8: Tensor, scale: Tensor, bias: Tensor | None, activation: str | None, activation_from: int,
    gate: Tensor | None, residual: Tensor | None,
) -> Plan:  # fmt: skip
    """fp8_linear of x that is quantized, at least in part: natively, or of what it stands for."""
    _check_rows(parts, w8)
    gelu, others = activation == "gelu_tanh", (bias, gate, residual)
    tensors = [tensor for part in parts for tensor in _tensors(part)]
    native = takes("linear_fp8", w8, *tensors, scale, *others, dtype=BFLOAT) and activation_from == 0
    if not (native and cuda.linear_fits(w8, *others) and _parts_fit(parts)):

        def wide(parts, w8, scale, bias, activation_from, gate, residual, out):
            dtype = BFLOAT if bias is None else bias.dtype
            inputs = tuple(part.decoded(dtype) if isinstance(part, Fp8Rows) else part.to(dtype) for part in parts)
            return fp8_linear(inputs, w8, scale, bias, activation=activation, activation_from=activation_from,
                              gate=gate, residual=residual, out=out)  # fmt: skip

        return Plan(wide, "torch", "of decoded activations")
    if torch.compiler.is_compiling():

        def library(parts, w8, scale, bias, _, gate, residual, __):
            rows = [_quantized(part, SCALE_BLOCK) for part in parts]
            codes, scales = [part.codes for part in rows], [part.scale for part in rows]
            rest = one_scale(scale), bias, gelu, gate, residual
            return torch.ops.hunyuan_ext.linear_fp8_rows(codes, scales, w8, *rest)

        return Plan(library, "hunyuan_ext::linear_fp8_rows")

    def run(parts, w8, scale, bias, _, gate, residual, out):
        rows = [_quantized(part, SCALE_BLOCK) for part in parts]
        return cuda.linear_fp8(rows, w8, one_scale(scale), bias, gelu, gate, residual, out)

    return Plan(run, "linear_fp8", f"W8A8 on FP8 tensor cores, {_reason(w8)}")


def _parts_fit(parts: Parts) -> bool:
    """`cuda.parts_fit` of parts of which the plain ones are quantized by blocks."""
    if len(parts) == 1:
        return True
    by_block = all(part.scale.ndim == 2 for part in parts if isinstance(part, Fp8Rows))
    return by_block and _tensors(parts[0])[0].shape[-1] % SCALE_BLOCK == 0


def _quantized(part: Part, block: int) -> Fp8Rows:
    if isinstance(part, Fp8Rows):
        return part
    if torch.compiler.is_compiling():
        return Fp8Rows(*torch.ops.hunyuan_ext.quantize_rows(part, block))
    return cuda.quantize_rows(part, block)


def plan_fp8_linear_fp8(tensors: tuple, constants: tuple) -> Plan:
    *flat, w8, scale, bias = tensors
    coded, activation = constants
    (x,) = as_parts(coded, flat)
    check.one_of("activation", activation, ACTIVATIONS)
    if isinstance(x, Fp8Rows):
        _check_rows((x,), w8)
        native = takes("linear_fp8", w8, *x, scale, bias, dtype=BFLOAT) and cuda.linear_fits(w8, bias)
    else:
        check_inputs((x,))
        _check_weight((x,), w8, scale)
        check_epilogue((x,), w8, bias, activation, 0, None, None, None, "w8")
        native = _takes((x,), w8, scale, bias)
    if not native:
        return Plan(lambda *operands: fp8_linear(*operands, activation=activation), "torch")
    gelu = activation == "gelu_tanh"
    if torch.compiler.is_compiling():

        def library(x, w8, scale, bias):
            rows = _quantized(x, cuda.x_block(w8.shape[1]))
            codes, scales = [rows.codes], [rows.scale]
            result = torch.ops.hunyuan_ext.linear_fp8_quantized(codes, scales, w8, one_scale(scale), bias, gelu)
            return Fp8Rows(*result)

        return Plan(library, "hunyuan_ext::linear_fp8_quantized")

    def run(x, w8, scale, bias):
        rows = _quantized(x, cuda.x_block(w8.shape[1]))
        return cuda.linear_fp8_quantized((rows,), w8, one_scale(scale), bias, gelu)

    return Plan(run, "linear_fp8", f"W8A8 on FP8 tensor cores, {_reason(w8)}")


def plan_layer_norm_fp8(tensors: tuple, constants: tuple) -> Plan:
    (x, shift, scale), (eps,) = tensors, constants
    native = takes("linear_fp8", x, shift, scale) and x.dtype == shift.dtype == scale.dtype
    if not native or x.numel() == 0:
        return Plan(lambda x, shift, scale, eps: layer_norm_modulate(x, shift, scale, eps=eps), "layer_norm_modulate")
    batch, _, channels = check.tensor("x", x, "B S C")
    check.like("shift", shift, "B C", (batch, channels), x)
    check.like("scale", scale, "B C", (batch, channels), x)
    check.positive("eps", eps)
    if torch.compiler.is_compiling():

        def library(x, shift, scale, eps):
            return Fp8Rows(*torch.ops.hunyuan_ext.layer_norm_modulate_fp8(x, shift, scale, eps))

        return Plan(library, "hunyuan_ext::layer_norm_modulate_fp8")
    return Plan(cuda.LayerNormFp8(x, shift, scale).run, "layer_norm_modulate_fp8", _reason(x))


def _check_rows(parts: tuple[Part, ...], w8: Tensor) -> None:
    check.tensor("w8", w8, "N K")
    shapes = [list(_tensors(part)[0].shape) for part in parts]
    if not 1 <= len(shapes) <= 2 or any(shape[:-1] != shapes[0][:-1] for shape in shapes):
        raise ValueError(f"x: one or two parts that agree in all but the last dimension are needed, got {shapes}")
    if sum(shape[-1] for shape in shapes) != w8.shape[1]:
        raise ValueError(f"x: codes of shape {shapes}, but w8 has {w8.shape[1]} columns")
    for part in parts:
        if isinstance(part, Fp8Rows):
            count, columns = part.codes.shape[:-1].numel(), part.codes.shape[-1]
            if tuple(part.scale.shape) not in ((count,), (-(-columns // SCALE_BLOCK), count)):
                raise ValueError(
                    f"x: scale of shape {list(part.scale.shape)} fits no quantization of {count} rows of {columns}"
                )


def _check_weight(inputs: Inputs, w8: Tensor, scale: Tensor) -> None:
    rows, columns = check.tensor("w8", w8, "N K")
    if w8.dtype not in FP8_DTYPES:
        raise TypeError(f"w8: float8_e4m3fn or float8_e5m2 is needed, got {w8.dtype}; quantize_fp8 makes it")
    check_scale(inputs, scale)
    shapes = (), (1,), (rows, 1), (-(-rows // SCALE_BLOCK), -(-columns // SCALE_BLOCK))
    if tuple(scale.shape) not in shapes:
        raise ValueError(
            f"scale: shape {list(scale.shape)} fits no granularity; [], [{rows}, 1] or {list(shapes[3])} is needed"
        )


def _reason(x: Tensor) -> str:
    return choice("linear_fp8", plain.device_type(x), BFLOAT, x.device.index).reason


def describe(device: str, dtype: torch.dtype) -> dict:
    """Entry of `capabilities` for fp8_linear."""
    picked = choice("linear_fp8", device, dtype)
    if picked.native:
        few = f"up to {cuda.FEW_ROWS} rows the weight decoded in registers"
        return {"implementation": "native", "reason": f"W8A8 on FP8 tensor cores, {few}; {picked.reason}"}
    whole = cpu.describe("float8_e4m3fn", "linear", "torch's matmul", device, dtype)
    if whole["implementation"] == "native":
        return whole
    return around_torch("decode_fp8", "decoding of weight rows", "torch's matmul", device, dtype, E4M3)


FP8_LINEAR, FP8_LINEAR_FP8, LAYER_NORM_FP8 = Op(plan_fp8_linear), Op(plan_fp8_linear_fp8), Op(plan_layer_norm_fp8)
DESCRIPTIONS["fp8_linear"] = describe
