"""Gradients of the linear layers: formulas for weights of one byte, which are constants, and a native GELU.

A formula takes the gradient of the op's output and the op's inputs, and returns one gradient (or None) of each input.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hunyuan_ext.core import native
from hunyuan_ext.core.operands import as_matrix
from hunyuan_ext.core.types import Gradients, widen
from hunyuan_ext.linear.quantize import Decoder, compute_dtype, fp8_product


def fp8_linear(grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Gradients:
    """Gradients of x and bias; the weight and its scale are constants (adapters train beside them)."""
    dtype = compute_dtype(grad)
    flat = grad.reshape(-1, grad.shape[-1]).to(dtype)
    grad_x = torch.zeros(
        (flat.shape[0], weight.shape[1]), dtype=torch.promote_types(dtype, torch.float32), device=x.device
    )
    for start, stop, rows in Decoder(weight, scale, dtype).blocks(weight, scale):
        grad_x = grad_x + flat[:, start:stop] @ rows
    grad_bias = None if bias is None else flat.sum(0).to(bias.dtype)
    return grad_x.to(x.dtype).view(x.shape), None, None, grad_bias


def linear_fp8(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    gelu: bool,
    gate: Tensor | None,
    residual: Tensor | None,
) -> Gradients:
    """Gradients of x, bias, gate and residual; what the kernel does not keep is computed again."""
    grad_residual = None if residual is None else grad.to(residual.dtype)
    grad_gate, inner = None, grad
    if gelu or gate is not None:
        out = fp8_product(x, weight, scale, bias)
        if gate is not None:
            active = F.gelu(out, approximate="tanh") if gelu else out
            grad_gate, inner = (grad * active).sum(1).to(gate.dtype), grad * gate[:, None]
        if gelu:
            inner = torch.ops.aten.gelu_backward(inner.to(out.dtype), out, approximate="tanh")
    grad_x, _, _, grad_bias = fp8_linear(inner.to(x.dtype), x, weight, scale, bias)
    return grad_x, None, None, grad_bias, None, grad_gate, grad_residual


def int8_linear(grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Gradients:
    """Gradients of x and bias as if x had not been quantized: rounding has none (straight-through estimator)."""
    wide = widen(grad)
    grad_x = wide @ (weight.to(wide.dtype) * scale.to(wide.dtype))
    grad_bias = None if bias is None else wide.reshape(-1, wide.shape[-1]).sum(0).to(bias.dtype)
    return grad_x.to(x.dtype), None, None, grad_bias


class SplitGelu(torch.autograd.Function):
    """(x[..., :split], gelu(x[..., split:])): the first is a view, the gradient one tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, split: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        ctx.split = split
        tail = x[..., split:]
        out = torch.empty(tail.shape, dtype=x.dtype, device="cpu")
        native.module.gelu(as_matrix(tail), None, as_matrix(out), torch.get_num_threads())
        return x[..., :split].view(*x.shape[:-1], split), out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_head: Tensor, grad_tail: Tensor) -> Gradients:
        (x,) = ctx.saved_tensors
        grad = torch.empty_like(x, memory_format=torch.contiguous_format)
        grad[..., : ctx.split].copy_(grad_head)
        matrices = (as_matrix(part) for part in (x[..., ctx.split :], grad_tail, grad[..., ctx.split :]))
        native.module.gelu(*matrices, torch.get_num_threads())
        return grad, None
