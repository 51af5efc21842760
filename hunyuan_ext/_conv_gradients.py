"""torch's convolution in bfloat16 on the CPU, with weight gradients that are numbers.

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

from hunyuan_ext import _training
from hunyuan_ext._backend import BFLOAT
from hunyuan_ext._types import Triple
from hunyuan_ext.autocast import autocast_enabled


def takes(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a convolution of these computes in bfloat16 on the CPU, for training: plain tensors."""
    plain = autocast_enabled("cpu") or x.dtype == weight.dtype == BFLOAT
    return plain and _training.is_plain_training(x, weight, bias)


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
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        grad_x, grad_weight, grad_bias = gradients(grad, x, weight, ctx.stride, wanted)
        if wanted[1] and not grad_weight.isfinite().all() and grad.isfinite().all():
            wide = gradients(grad.float(), x.float(), weight.float(), ctx.stride, [False, True, False])[1]
            grad_weight = wide.to(weight.dtype)
        return grad_x, grad_weight, grad_bias, None


def gradients(grad: Tensor, x: Tensor, weight: Tensor, stride: Triple, wanted: list[bool]) -> tuple[Tensor, ...]:
    """Of x, weight and bias, those that are wanted."""
    sizes, zero, one = [weight.shape[0]], [0, 0, 0], [1, 1, 1]
    return torch.ops.aten.convolution_backward(grad, x, weight, sizes, list(stride), zero, one, False, zero, 1, wanted)
