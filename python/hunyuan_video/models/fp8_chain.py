"""Activations in FP8 between the FP8 linears of a block, on GPUs that multiply FP8: what makes them quantises them.

The norm in front of a linear and the GELU layer in front of another write codes and scales in their own pass; nothing
is quantised, activated or copied by a pass of its own. Elsewhere (CPU, gradients, adapters or hooks around a linear)
the same functions give plain tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import hunyuan_ext as ops
from hunyuan_video.models.fp8 import FP8Linear
from hunyuan_video.models.int8 import Int8Linear

Part = Tensor | ops.Fp8Rows  # plain, or quantised by what made it


def modulated(
    x: Tensor,  # [B, S, D]
    shift: Tensor,  # [B, D]
    scale: Tensor,  # [B, D]
    reader: nn.Module,
) -> Part:  # [B, S, D]
    """layer_norm_modulate for the linear that reads it."""
    return (ops.layer_norm_modulate_fp8 if reads_fp8(reader) else ops.layer_norm_modulate)(x, shift, scale)


def fp8_hidden(module: nn.Module, x: Part, reader: nn.Module) -> Part | None:  # [B, S, K] -> [B, S, N]
    """gelu(module(x)) for the linear that reads it; None unless both have FP8 weights."""
    if not (isinstance(module, FP8Linear) and reads_fp8(module) and reads_fp8(reader)):
        return None
    return ops.fp8_linear_fp8(x, module.weight, module.scale, module.bias_as(x), activation="gelu_tanh")


def fp8_halves(
    module: nn.Module,
    x: ops.Fp8Rows,  # [B, S, K]
    split: int,
    reader: nn.Module,
) -> tuple[Tensor, Part]:  # [B, S, split], [B, S, N - split]
    """module(x) in two parts, the second after a GELU, for `reader`: two products, each with its epilogue."""
    assert isinstance(module, FP8Linear)
    weight, scale, bias = module.weight, module.scale, module.bias_as(x)
    biases = (None, None) if bias is None else (bias[:split], bias[split:])
    scales = (scale[:split], scale[split:]) if scale.ndim else (scale, scale)
    hidden = ops.fp8_linear_fp8 if reads_fp8(reader) else ops.fp8_linear
    first = ops.fp8_linear(x, weight[:split], scales[0], biases[0])
    return first, hidden(x, weight[split:], scales[1], biases[1], activation="gelu_tanh")


def reads_fp8(module: nn.Module) -> bool:
    """Whether a linear takes quantised activations: FP8 weights, nothing around it, no gradient."""
    return type(module) is FP8Linear and is_open(module) and not torch.is_grad_enabled()


def is_open(module: nn.Module) -> bool:
    """Whether a module is nothing but the linear it looks like."""
    if type(module) not in (nn.Linear, FP8Linear, Int8Linear):
        return False
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return not hooks and "forward" not in module.__dict__
