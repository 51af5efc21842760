"""FP8 linear layers: weights of one byte, an epilogue of activation, gate and residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from hunyuan_ext import _check, _cpu_linear, _cuda, _fp8, reference
from hunyuan_ext._backend import runs_native
from hunyuan_ext._types import Fp8Rows
from hunyuan_ext.autocast import autocast_enabled
from hunyuan_ext.dense import ACTIVATIONS, Inputs, as_inputs, check_epilogue, check_scale, composed, joined, unit
from hunyuan_ext.norm import layer_norm_modulate

ACTIVATION_QUANT = ("dynamic_row", "none")
GRANULARITIES = ("row", "tensor", "block")
FP8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)
Part = Tensor | Fp8Rows


def quantize_fp8(
    w: Tensor,  # [N, K]
    *,
    granularity: str = "row",
    dtype: torch.dtype = torch.float8_e4m3fn,
) -> tuple[Tensor, Tensor]:
    """Symmetric FP8 quantisation to nearest, scale = largest magnitude / largest FP8 value; w ~ w8 * scale.

    Returns w8 [N, K] in `dtype` and scale in float32: [N, 1] for "row", [] for "tensor",
    [ceil(N / 128), ceil(K / 128)] for "block". An all-zero row, tensor or block has scale 1.
    """
    _check.tensor("w", w, "N K")
    _check.one_of("granularity", granularity, GRANULARITIES)
    _check.one_of("dtype", dtype, FP8_DTYPES)
    return reference.quantize_fp8(w, granularity=granularity, dtype=dtype)


def fp8_linear(
    x: Part | Sequence[Part],  # [..., K], plain or quantised, or two that are K together
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
    float32: activation_quant="dynamic_row" quantises x with a scale a row, from K = 8192 on a scale for every 128
    columns of a row; "none" forbids that. CPUs with AMX or AVX512-BF16 decode weights in cache inside the product of
    bfloat16 x; elsewhere they are decoded a block of rows at a time, into a buffer of 2 MB: there is never a second
    copy of them. Gradients flow to x, bias, gate and residual, not to w8 and scale.
    Under autocast x is cast to its dtype. x may come quantised (layer_norm_modulate_fp8, fp8_linear_fp8), also as one
    of two parts.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    parts = _parts(x)
    if any(isinstance(part, Fp8Rows) for part in parts):
        return _of_rows(parts, w8, scale, bias, activation, activation_from, gate, residual, out)
    inputs = as_inputs(cast("Tensor | Sequence[Tensor]", x))
    _check_weight(inputs, w8, scale)
    check_epilogue(inputs, w8, bias, activation, activation_from, gate, residual, out, "w8")
    _check.one_of("activation_quant", activation_quant, ACTIVATION_QUANT)
    if autocast_enabled(w8.device.type):
        inputs = tuple(one.to(torch.get_autocast_dtype(w8.device.type)) for one in inputs)
    scale = scale.reshape(()) if scale.numel() == 1 else scale
    block, gelu = _fp8.scale_block(w8, scale), activation == "gelu_tanh"
    chosen = unit(inputs, w8, bias, gate, residual, out, scale) if block == 0 or len(inputs) == 1 else None
    if chosen is not None:
        begin = activation_from if gelu else None
        return _cpu_linear.call(inputs, w8, (scale, block), bias, gate, residual, out, begin, unit=chosen)
    x = joined(inputs)
    plain = activation_from == 0 and out is None
    if plain and activation_quant != "none" and _native_fits(x, w8, scale, bias, gate, residual):
        if torch.compiler.is_compiling():
            return torch.ops.hunyuan_ext.linear_fp8(x, w8, scale, bias, gelu, gate, residual)
        rows = _cuda.quantize_rows(x, _cuda.x_block(x.shape[-1]))
        return _cuda.linear_fp8((rows,), w8, scale, bias, gelu, gate, residual)
    return composed(_linear(x, w8, scale, bias), activation, activation_from, gate, residual, out)


def fp8_linear_fp8(
    x: Part,  # [..., K], plain or quantised
    w8: Tensor,  # [N, K] float8_e4m3fn
    scale: Tensor,  # fp32: [], [N, 1] or [ceil(N / 128), ceil(K / 128)]
    bias: Tensor | None = None,  # [N]
    *,
    activation: str | None = None,
) -> Part:  # [..., N], quantised with a scale for every 128 columns of a row, or plain
    """act(x @ (w8 * scale).T + bias), quantised in the epilogue for the fp8_linear that follows, where that is native.

    It saves writing the result in bfloat16, reading it and writing the codes: what the wide layer of an MLP gains
    most from. Where there is no FP8 product, or gradients flow, the plain result of fp8_linear.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    _check.one_of("activation", activation, ACTIVATIONS)
    if isinstance(x, Fp8Rows):
        _check_rows((x,), w8)
        native = runs_native("linear_fp8", _like(x), *x, w8, scale, bias) and _cuda.linear_fits(w8, bias)
    else:
        inputs = as_inputs(x)
        _check_weight(inputs, w8, scale)
        check_epilogue(inputs, w8, bias, activation, 0, None, None, None, "w8")
        native = _native_fits(x, w8, scale, bias)
    if not native:
        return fp8_linear(x, w8, scale, bias, activation=activation)
    scale, gelu = scale.reshape(()) if scale.numel() == 1 else scale, activation == "gelu_tanh"
    rows = x if isinstance(x, Fp8Rows) else _quantised(x, _cuda.x_block(x.shape[-1]))
    if torch.compiler.is_compiling():
        codes, scales = [rows.codes], [rows.scale]
        return Fp8Rows(*torch.ops.hunyuan_ext.linear_fp8_quantised(codes, scales, w8, scale, bias, gelu))
    return _cuda.linear_fp8_quantised((rows,), w8, scale, bias, gelu)


def layer_norm_modulate_fp8(
    x: Tensor,  # [B, S, C]
    shift: Tensor,  # [B, C]
    scale: Tensor,  # [B, C]
    *,
    eps: float = 1e-6,
) -> Part:  # [B, S, C], quantised with a scale a row, or plain
    """layer_norm_modulate, quantised in the same pass for the fp8_linear that follows, where that is native.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    native = runs_native("linear_fp8", x, shift, scale) and x.dtype == shift.dtype == scale.dtype
    if not native or x.numel() == 0:
        return layer_norm_modulate(x, shift, scale, eps=eps)
    batch, _, channels = _check.tensor("x", x, "B S C")
    _check.like("shift", shift, "B C", (batch, channels), x)
    _check.like("scale", scale, "B C", (batch, channels), x)
    _check.positive("eps", eps)
    if torch.compiler.is_compiling():
        return Fp8Rows(*torch.ops.hunyuan_ext.layer_norm_modulate_fp8(x, shift, scale, eps))
    return _cuda.layer_norm_modulate_fp8(x, shift, scale, eps)


def _parts(x: Part | Sequence[Part]) -> tuple[Part, ...]:
    if isinstance(x, Fp8Rows) or not isinstance(x, list | tuple):
        return (cast(Part, x),)
    return tuple(x)


def _of_rows(
    parts: tuple[Part, ...], w8: Tensor, scale: Tensor, bias: Tensor | None, activation: str | None,
    activation_from: int, gate: Tensor | None, residual: Tensor | None, out: Tensor | None,
) -> Tensor:  # fmt: skip
    """fp8_linear of x that is quantised, at least in part: natively, or of what it stands for."""
    _check_rows(parts, w8)
    others, tensors = (bias, gate, residual), [one for part in parts for one in _parts_of(part)]
    native = runs_native("linear_fp8", _like(parts[0]), *tensors, w8, scale, *others)
    if native and activation_from == 0 and _cuda.linear_fits(w8, *others):
        rows = [part if isinstance(part, Fp8Rows) else _quantised(part, _cuda.SCALE_BLOCK) for part in parts]
        if _cuda.parts_fit(rows):
            scale, gelu = scale.reshape(()) if scale.numel() == 1 else scale, activation == "gelu_tanh"
            if not torch.compiler.is_compiling():
                return _cuda.linear_fp8(rows, w8, scale, bias, gelu, gate, residual, out)
            codes, scales = [one.codes for one in rows], [one.scale for one in rows]
            return torch.ops.hunyuan_ext.linear_fp8_rows(codes, scales, w8, scale, bias, gelu, gate, residual)
    dtype = torch.bfloat16 if bias is None else bias.dtype
    wide = tuple(part.decoded(dtype) if isinstance(part, Fp8Rows) else part.to(dtype) for part in parts)
    return fp8_linear(wide, w8, scale, bias, activation=activation, activation_from=activation_from, gate=gate,
                      residual=residual, out=out)  # fmt: skip


def _parts_of(part: Part) -> tuple[Tensor, ...]:
    return tuple(part) if isinstance(part, Fp8Rows) else (part,)


def _quantised(x: Tensor, block: int) -> Fp8Rows:
    if torch.compiler.is_compiling():
        return Fp8Rows(*torch.ops.hunyuan_ext.quantize_rows(x, block))
    return _cuda.quantize_rows(x, block)


def _like(part: Part) -> Tensor:
    """A bfloat16 tensor on the device: what the dispatch looks at."""
    return torch.empty((), dtype=torch.bfloat16, device=_parts_of(part)[0].device)


def _native_fits(x: Tensor, w8: Tensor, scale: Tensor, *others: Tensor | None) -> bool:
    return x.numel() > 0 and runs_native("linear_fp8", x, w8, scale, *others) and _cuda.linear_fits(w8, *others)


def _linear(x: Tensor, w8: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    scale = scale.reshape(()) if scale.numel() == 1 else scale
    differentiable = torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad))
    if differentiable or torch.compiler.is_compiling():
        return torch.ops.hunyuan_ext.fp8_linear(x, w8, scale, bias)
    if x.is_meta:
        return x.new_empty((*x.shape[:-1], w8.shape[0]))
    return _fp8.linear(x, w8, scale, bias)


def _check_rows(parts: tuple[Part, ...], w8: Tensor) -> None:
    _check.tensor("w8", w8, "N K")
    shapes = [list(_parts_of(part)[0].shape) for part in parts]
    if not 1 <= len(shapes) <= 2 or any(shape[:-1] != shapes[0][:-1] for shape in shapes):
        raise ValueError(f"x: one or two parts that agree in all but the last dimension are needed, got {shapes}")
    if sum(shape[-1] for shape in shapes) != w8.shape[1]:
        raise ValueError(f"x: codes of shape {shapes}, but w8 has {w8.shape[1]} columns")
    for part in parts:
        if isinstance(part, Fp8Rows):
            count, columns = part.codes.shape[:-1].numel(), part.codes.shape[-1]
            if tuple(part.scale.shape) not in ((count,), (-(-columns // _fp8.SCALE_BLOCK), count)):
                raise ValueError(
                    f"x: scale of shape {list(part.scale.shape)} fits no quantisation of {count} rows of {columns}"
                )


def _check_weight(inputs: Inputs, w8: Tensor, scale: Tensor) -> None:
    rows, columns = _check.tensor("w8", w8, "N K")
    if w8.dtype not in FP8_DTYPES:
        raise TypeError(f"w8: float8_e4m3fn or float8_e5m2 is needed, got {w8.dtype}; quantize_fp8 makes it")
    check_scale(inputs, scale)
    shapes = (), (1,), (rows, 1), (-(-rows // _fp8.SCALE_BLOCK), -(-columns // _fp8.SCALE_BLOCK))
    if tuple(scale.shape) not in shapes:
        raise ValueError(
            f"scale: shape {list(scale.shape)} fits no granularity; [], [{rows}, 1] or {list(shapes[3])} is needed"
        )
