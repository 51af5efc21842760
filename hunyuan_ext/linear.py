"""FP8 linear layers: weights of one byte, an epilogue of activation, gate and residual."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext import _backend, _check, _fp8, reference
from hunyuan_ext.norm import gate_residual

ACTIVATIONS = (None, "gelu_tanh")
ACTIVATION_QUANT = ("dynamic_row", "none")
GRANULARITIES = ("row", "tensor", "block")
FP8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)


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
    x: Tensor,  # [..., K]
    w8: Tensor,  # [N, K] float8_e4m3fn (or e5m2)
    scale: Tensor,  # fp32: [], [N, 1] or [ceil(N / 128), ceil(K / 128)]
    bias: Tensor | None = None,  # [N]
    *,
    activation: str | None = None,
    gate: Tensor | None = None,  # [B, N]; x is then [B, S, K]
    residual: Tensor | None = None,  # [..., N]
    activation_quant: str = "dynamic_row",
) -> Tensor:  # [..., N]
    """residual + gate * act(x @ (w8 * scale).T + bias), act one of None and "gelu_tanh".

    Weights are decoded a block of rows at a time, into a buffer of 2 MB: there is never a second copy of them.
    activation_quant="dynamic_row" lets devices with FP8 tensor cores quantise x per row; others keep x as it is.
    Gradients flow to x, bias, gate and residual, not to w8 and scale. Under autocast x is cast to its dtype.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    _check_arguments(x, w8, scale, bias, gate, residual)
    _check.one_of("activation", activation, ACTIVATIONS)
    _check.one_of("activation_quant", activation_quant, ACTIVATION_QUANT)
    if _backend.autocast_enabled(x.device):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    out = _linear(x, w8, scale, bias)
    if activation == "gelu_tanh":
        out = F.gelu(out, approximate="tanh")
    if gate is not None and residual is not None:
        return gate_residual(residual, out, gate)
    if gate is not None:
        out = gate[:, None] * out
    return out if residual is None else residual + out


def _linear(x: Tensor, w8: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    scale = scale.reshape(()) if scale.numel() == 1 else scale
    differentiable = torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad))
    if differentiable or torch.compiler.is_compiling():
        return torch.ops.hunyuan_ext.fp8_linear(x, w8, scale, bias)
    if x.is_meta:
        return x.new_empty((*x.shape[:-1], w8.shape[0]))
    return _fp8.linear(x, w8, scale, bias)


def _check_arguments(
    x: Tensor, w8: Tensor, scale: Tensor, bias: Tensor | None, gate: Tensor | None, residual: Tensor | None
) -> None:
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point or x.ndim < 1:
        raise TypeError(f"x: a floating-point tensor [..., K] is needed, got {_check.described(x)}")
    rows, columns = _check.tensor("w8", w8, "N K")
    if w8.dtype not in FP8_DTYPES:
        raise TypeError(f"w8: float8_e4m3fn or float8_e5m2 is needed, got {w8.dtype}; quantize_fp8 makes it")
    if x.shape[-1] != columns:
        raise ValueError(f"x: its last dimension is {x.shape[-1]}, but w8 has {columns} columns")
    shapes = (), (1,), (rows, 1), (-(-rows // _fp8.SCALE_BLOCK), -(-columns // _fp8.SCALE_BLOCK))
    if not isinstance(scale, Tensor) or scale.dtype != torch.float32:
        raise TypeError(f"scale: a float32 tensor is needed, got {_check.described(scale)}")
    if tuple(scale.shape) not in shapes:
        raise ValueError(
            f"scale: shape {list(scale.shape)} fits no granularity; [], [{rows}, 1] or {list(shapes[3])} is needed"
        )
    if bias is not None:
        _check.like("bias", bias, "N", (rows,), x)
    if gate is not None:
        if x.ndim != 3:
            raise ValueError(f"gate: needs x as [B, S, K], got shape {list(x.shape)}")
        _check.like("gate", gate, "B N", (x.shape[0], rows), x)
    if residual is not None and tuple(residual.shape) != (*x.shape[:-1], rows):
        raise ValueError(f"residual: shape {list(residual.shape)}, but {[*x.shape[:-1], rows]} is needed")
    for name, value in (("w8", w8), ("scale", scale)):
        if value.device != x.device:
            raise ValueError(f"{name}: is on {value.device}, x on {x.device}; move it there")
