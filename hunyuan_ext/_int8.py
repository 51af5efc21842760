"""q(x) @ (w8 * scale).T + bias, where q quantises each row of x to int8."""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_ext import _cpu_linear, reference
from hunyuan_ext._gradients import Gradients, widen


def linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:  # [..., K] -> [..., N]
    with torch.autocast(x.device.type, enabled=False):
        unit = _cpu_linear.unit_for(x, weight, scale, bias)
        if unit is not None:
            return _cpu_linear.call((x,), weight, (scale, 0), bias, unit=unit)
        return composed(x, weight, scale, bias)


def composed(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """In torch operations; on a CPU with exact integer sums."""
    codes, x_scale = reference.quantize_int8(x.reshape(-1, x.shape[-1]))
    if x.device.type == "cpu" and codes.numel() and weight.numel():
        sums = torch._int_mm(codes, weight.T).to(x_scale.dtype)
    else:
        sums = codes.to(x_scale.dtype) @ weight.to(x_scale.dtype).T
    out = sums * x_scale * scale.to(x_scale.dtype).T
    out = out if bias is None else out + bias
    return out.to(x.dtype).view(*x.shape[:-1], weight.shape[0])


def linear_gradient(grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Gradients:
    """Gradients of x and bias as if x had not been quantised: rounding has none (straight-through estimator)."""
    wide = widen(grad)
    grad_x = wide @ (weight.to(wide.dtype) * scale.to(wide.dtype))
    grad_bias = None if bias is None else wide.reshape(-1, wide.shape[-1]).sum(0).to(bias.dtype)
    return grad_x.to(x.dtype), None, None, grad_bias
