"""Linear layers with an epilogue of activation, gate and residual: plain and int8 weights (FP8: linear.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext import _check, _cpu_linear, _direct, _int8, _training, reference
from hunyuan_ext.autocast import autocast_enabled
from hunyuan_ext.norm import gate_residual

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
    result = _direct.linear(x, weight, bias, activation, activation_from, gate, residual, out)
    if result is not None:
        return result
    inputs = as_inputs(x)
    _check.tensor("weight", weight, "N K")
    check_epilogue(inputs, weight, bias, activation, activation_from, gate, residual, out)
    chosen = unit(inputs, weight, bias, gate, residual, out)
    if chosen is not None:
        begin = activation_from if activation else None
        return _cpu_linear.call(inputs, weight, None, bias, gate, residual, out, begin, unit=chosen)
    whole = activation == "gelu_tanh" and activation_from == 0
    if whole and _cpu_linear.fits_onednn(inputs, weight, bias):
        product = _cpu_linear.onednn_gelu(joined(inputs), weight, bias)
        return composed(product, None, 0, gate, residual, out)
    return composed(F.linear(joined(inputs), weight, bias), activation, activation_from, gate, residual, out)


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
    """residual + gate * act(q(x) @ (w8 * scale).T + bias), q the int8 quantisation of each row of x: W8A8.

    q is that of `quantize_int8`; the other arguments are those of `linear`. Integer sums are exact. Native for float32
    and bfloat16 on CPUs with AMX or VNNI; composed elsewhere. Gradients flow to x as if it were not rounded, and to
    bias, gate and residual.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    inputs = as_inputs(x)
    _check_int8(inputs, w8, scale)
    check_epilogue(inputs, w8, bias, activation, activation_from, gate, residual, out, "w8")
    if autocast_enabled(w8.device.type):
        inputs = tuple(one.to(torch.get_autocast_dtype(w8.device.type)) for one in inputs)
    chosen = unit(inputs, w8, bias, gate, residual, out, scale)
    if chosen is not None:
        begin = activation_from if activation else None
        return _cpu_linear.call(inputs, w8, (scale, 0), bias, gate, residual, out, begin, unit=chosen)
    product = _int8_product(joined(inputs), w8, scale, bias)
    return composed(product, activation, activation_from, gate, residual, out)


def quantize_int8(w: Tensor) -> tuple[Tensor, Tensor]:  # [N, K] -> int8 [N, K], fp32 [N, 1]
    """Symmetric int8 quantisation of each row to nearest even, scale = largest magnitude / 127; w ~ w8 * scale.

    The values are in -127..127. An all-zero row has scale 1. Raises ValueError or TypeError for anything but a
    floating-point matrix.
    """
    _check.tensor("w", w, "N K")
    return reference.quantize_int8(w.float())


def _int8_product(x: Tensor, w8: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    differentiable = torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad))
    if differentiable or torch.compiler.is_compiling():
        return torch.ops.hunyuan_ext.int8_linear(x, w8, scale, bias)
    if x.is_meta:
        return x.new_empty((*x.shape[:-1], w8.shape[0]))
    return _int8.linear(x, w8, scale, bias)


def unit(
    inputs: Inputs,
    weight: Tensor,
    bias: Tensor | None,
    gate: Tensor | None,
    residual: Tensor | None,
    out: Tensor | None,
    scale: Tensor | None = None,
) -> int | None:
    """The CPU unit whose kernel does the whole call, or None."""
    x = inputs[0]
    if any(other is not None and other.dtype != x.dtype for other in (*inputs, gate, residual, out)):
        return None
    return _cpu_linear.unit_for(x, weight, *inputs[1:], bias, gate, residual, out, scale)


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
        head, tail = _training.split_gelu(product, activation_from)
        product = torch.cat((head, tail), -1) if activation_from else tail
    if gate is not None and residual is not None:
        product = gate_residual(residual, product, gate)
    elif gate is not None:
        product = gate[:, None] * product
    elif residual is not None:
        product = residual + product
    return product if out is None else out.copy_(product)


def joined(inputs: Inputs) -> Tensor:
    return inputs[0] if len(inputs) == 1 else torch.cat(inputs, -1)


def as_inputs(x: Tensor | Sequence[Tensor]) -> Inputs:
    """x as one or two tensors [..., K_i] of one dtype, device and leading shape."""
    inputs = (x,) if isinstance(x, Tensor) else tuple(x) if isinstance(x, list | tuple) else (x,)
    if not 1 <= len(inputs) <= 2:
        raise ValueError(f"x: one tensor or two are needed, got {len(inputs)}")
    for one in inputs:
        if not isinstance(one, Tensor) or not one.dtype.is_floating_point or one.ndim < 1:
            raise TypeError(f"x: a floating-point tensor [..., K] is needed, got {_check.described(one)}")
    first, last = inputs[0], inputs[-1]
    if first.shape[:-1] != last.shape[:-1] or first.dtype != last.dtype or first.device != last.device:
        raise ValueError(
            f"x: its two tensors must agree in all but the last dimension, got {_check.described(first)} on "
            f"{first.device} and {_check.described(last)} on {last.device}"
        )
    return inputs


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
    x, columns, rows = inputs[0], sum(one.shape[-1] for one in inputs), weight.shape[0]
    if columns != weight.shape[1]:
        raise ValueError(f"x: its last dimension is {columns}, but {name} has {weight.shape[1]} columns")
    if weight.device != x.device:
        raise ValueError(f"{name}: is on {weight.device}, x on {x.device}; move it there")
    _check.one_of("activation", activation, ACTIVATIONS)
    panel = _cpu_linear.PANEL
    if not 0 <= activation_from <= rows or activation_from % panel:
        raise ValueError(
            f"activation_from: {activation_from} is not a multiple of {panel} between 0 and the {rows} rows of {name}"
        )
    if bias is not None:
        _check.like("bias", bias, "N", (rows,), x)
    if gate is not None:
        if x.ndim != 3:
            raise ValueError(f"gate: needs x as [B, S, K], got shape {list(x.shape)}")
        _check.like("gate", gate, "B N", (x.shape[0], rows), x)
    for label, value in (("residual", residual), ("out", out)):
        if value is not None and tuple(value.shape) != (*x.shape[:-1], rows):
            raise ValueError(f"{label}: shape {list(value.shape)}, but {[*x.shape[:-1], rows]} is needed")
    if out is not None and (out.dtype != x.dtype or out.device != x.device or out.stride(-1) not in (0, 1)):
        raise ValueError(f"out: must have x's dtype and device and a contiguous last dimension, got {out.dtype}")


def _check_int8(inputs: Inputs, w8: Tensor, scale: Tensor) -> None:
    if not isinstance(w8, Tensor) or w8.dtype != torch.int8 or w8.ndim != 2:
        raise TypeError(f"w8: an int8 tensor [N, K] is needed, got {_check.described(w8)}; quantize_int8 makes it")
    check_scale(inputs, scale)
    if tuple(scale.shape) != (w8.shape[0], 1):
        raise ValueError(f"scale: shape {list(scale.shape)}, but [{w8.shape[0]}, 1] is needed")


def check_scale(inputs: Inputs, scale: Tensor) -> None:
    if not isinstance(scale, Tensor) or scale.dtype != torch.float32:
        raise TypeError(f"scale: a float32 tensor is needed, got {_check.described(scale)}")
    if scale.device != inputs[0].device:
        raise ValueError(f"scale: is on {scale.device}, x on {inputs[0].device}; move it there")
