"""Gradients of the causal convolution and its padding.

The formulas are in plain torch operations: the gradient of the op's output and the op's inputs in, one gradient (or
None) of each input out. `Convolution` is torch's own in bfloat16 on the CPU, with weight gradients that are numbers:
oneDNN in torch 2.11 and 2.13 gives NaN for the weight gradient of some shapes on processors with AMX (32 channels,
3 x 66 x 66: an image of 64 x 64 pixels). Looking at the gradient costs little beside the convolution; NaN is made again
in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hunyuan_ext.core import plain
from hunyuan_ext.core.dispatch import trains
from hunyuan_ext.core.types import BFLOAT, Gradients, Triple, widen


def unpad(grad: Tensor, x: Tensor, pad: list[int]) -> Tensor:
    """Gradient of replicate padding: every copy's gradient goes to the element it was copied from."""
    sides = [pad[2], pad[2], pad[1], pad[1], pad[0], 0]
    if not any(pad):
        return widen(grad)
    return torch.ops.aten.replication_pad3d_backward(widen(grad).contiguous(), widen(x), sides)


def pad_causal(grad: Tensor, x: Tensor, pad: list[int]) -> Gradients:
    return unpad(grad, x, pad).to(x.dtype), None


def causal_conv3d(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, stride: list[int]
) -> Gradients:
    wanted = [True, True, bias is not None]
    sizes = None if bias is None else [bias.shape[0]]
    grad_x, grad_weight, grad_bias = convolution_backward(grad.to(x.dtype), x, weight, sizes, stride, wanted)
    grad_residual = None if residual is None else grad.to(residual.dtype)
    return grad_x, grad_weight, None if bias is None else grad_bias.to(bias.dtype), grad_residual, None


def convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, sizes: list[int] | None, stride: Any, wanted: list[bool]
) -> tuple[Tensor, ...]:
    """Gradients of x, weight and bias, as selected by `wanted`; of a convolution without padding."""
    zero, unit = [0, 0, 0], [1, 1, 1]
    return torch.ops.aten.convolution_backward(grad, x, weight, sizes, list(stride), zero, unit, False, zero, 1, wanted)


def takes(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """True if a convolution of these computes in bfloat16 on the CPU, for training: plain tensors."""
    narrow = plain.autocast_enabled("cpu") or x.dtype == weight.dtype == BFLOAT
    return narrow and trains(x, weight, bias)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple) -> Tensor:
    """torch's conv3d without padding, in bfloat16."""
    bias = None if bias is None else bias.to(BFLOAT)
    return Convolution.apply(x.to(BFLOAT), weight.to(BFLOAT), bias, stride)


class Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv3d(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        x, weight = ctx.saved_tensors
        wanted, sizes = list(ctx.needs_input_grad[:3]), [weight.shape[0]]
        grad_x, grad_weight, grad_bias = convolution_backward(grad, x, weight, sizes, ctx.stride, wanted)
        if wanted[1] and not grad_weight.isfinite().all() and grad.isfinite().all():
            only_weight = [False, True, False]
            wide = convolution_backward(grad.float(), x.float(), weight.float(), sizes, ctx.stride, only_weight)[1]
            grad_weight = wide.to(weight.dtype)
        return grad_x, grad_weight, grad_bias, None
