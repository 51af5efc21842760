"""Gradients of the norms and the gated residual: formulas, and native passes in bfloat16 on the CPU.

A formula takes the gradient of the op's output and the op's inputs, and returns one gradient (or None) of each input,
in plain torch operations: float32, or float64 for float64 inputs. The autograd functions are one pass forward and one
backward over memory and keep no more than their inputs. Sums are float32, results are rounded once: the same bits for
any number of threads. Not differentiable twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hunyuan_ext.conv.autograd import unpad
from hunyuan_ext.core import native
from hunyuan_ext.core.operands import rows
from hunyuan_ext.core.types import Gradients, widen


def layer_norm_modulate(grad: Tensor, x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Gradients:
    grad, wide = widen(grad), widen(x)
    centered = wide - wide.mean(-1, keepdim=True)
    inverse = torch.rsqrt(centered.square().mean(-1, keepdim=True) + eps)
    normed = centered * inverse
    inner = grad * (1 + scale[:, None])
    moved = inner - inner.mean(-1, keepdim=True) - normed * (inner * normed).mean(-1, keepdim=True)
    return (moved * inverse).to(x.dtype), grad.sum(1).to(shift.dtype), (grad * normed).sum(1).to(scale.dtype), None


def gate_residual(grad: Tensor, x: Tensor, y: Tensor, gate: Tensor) -> Gradients:
    wide = widen(grad)
    return grad.to(x.dtype), (wide * gate[:, None]).to(y.dtype), (wide * y).sum(1).to(gate.dtype)


def group_norm_silu(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    groups: int,
    eps: float,
    silu: bool,
    pad: list[int],
) -> Gradients:
    def per_channel(vector: Tensor | None, absent: float) -> Tensor | float:
        return absent if vector is None else widen(vector)[:, None, None, None]

    def grouped_mean(values: Tensor) -> Tensor:
        mean = values.unflatten(1, (groups, -1)).mean((2, 3, 4, 5))  # [B, groups]
        return mean.repeat_interleave(x.shape[1] // groups, 1)[:, :, None, None, None]

    grad, wide = unpad(grad, x, pad), widen(x)
    centered = wide - grouped_mean(wide)
    inverse = torch.rsqrt(grouped_mean(centered.square()) + eps)
    normed = centered * inverse
    if silu:
        z = normed * per_channel(weight, 1.0) + per_channel(bias, 0.0)
        sigmoid = torch.sigmoid(z)
        grad = grad * sigmoid * (1 + z * (1 - sigmoid))
    inner = grad * per_channel(weight, 1.0)
    grad_x = (inner - grouped_mean(inner) - normed * grouped_mean(inner * normed)) * inverse
    grad_weight = None if weight is None else (grad * normed).sum((0, 2, 3, 4)).to(weight.dtype)
    grad_bias = None if bias is None else grad.sum((0, 2, 3, 4)).to(bias.dtype)
    return grad_x.to(x.dtype), grad_weight, grad_bias, None, None, None, None


class LayerNormModulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.eps = eps
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        threads = torch.get_num_threads()
        native.module.layer_norm_modulate(rows(x), rows(shift), rows(scale), out, eps, threads)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        x, scale = ctx.saved_tensors
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        grad_shift, grad_scale = (torch.empty_like(scale, memory_format=torch.contiguous_format) for _ in range(2))
        native.module.layer_norm_modulate_backward(
            rows(grad), rows(x), rows(scale), grad_x, grad_shift, grad_scale, ctx.eps, torch.get_num_threads()
        )
        return grad_x, grad_shift, grad_scale, None


class GateResidual(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(y, gate)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        native.module.gate_residual(rows(x), rows(y), rows(gate), out, torch.get_num_threads())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        y, gate = ctx.saved_tensors
        grad_y, grad_gate = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (y, gate))
        native.module.gate_residual_backward(
            rows(grad), rows(y), rows(gate), grad_y, grad_gate, torch.get_num_threads()
        )
        return grad, grad_y, grad_gate
