"""A template: the smallest op that has all the parts of a real one. docs/add_an_op.md says how to copy it."""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_ext import reference
from hunyuan_ext.core import check, native
from hunyuan_ext.core.dispatch import Op, Plan, choice, kernel, takes
from hunyuan_ext.core.library import register
from hunyuan_ext.core.operands import rows
from hunyuan_ext.core.types import BFLOAT, FLOAT, HALF, Gradients, widen

kernel("template_scale", cpu=(FLOAT, BFLOAT), cuda=(FLOAT, BFLOAT, HALF))


def template_scale(x: Tensor, factor: float) -> Tensor:  # [N] -> [N]
    """x * factor.

    Any floating dtype; native for float32 and bfloat16 on CPUs with AVX2 or AVX-512 and on CUDA (float16 too).
    Raises ValueError or TypeError, naming the argument, for a wrong shape or dtype.
    """
    return TEMPLATE_SCALE.plan((x,), ())(x, factor)


def plan_template_scale(tensors: tuple, constants: tuple) -> Plan:
    (x,) = tensors
    check.tensor("x", x, "N")
    if not takes("template_scale", x):
        return Plan(reference.template_scale, "torch")
    if torch.compiler.is_compiling():
        return Plan(torch.ops.hunyuan_ext.template_scale, "hunyuan_ext::template_scale")
    return Plan(run_native, "template_scale", choice("template_scale", x.device.type, x.dtype, x.device.index).reason)


def run_native(x: Tensor, factor: float) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    native.module.template_scale(rows(x), factor, out, torch.get_num_threads())
    return out


def implementation(x: Tensor, factor: float) -> Tensor:
    """Implementation of torch.ops.hunyuan_ext.template_scale; its result is always contiguous."""
    return run_native(x, factor) if takes("template_scale", x) else reference.template_scale(x, factor).contiguous()


def fake(x: Tensor, factor: float) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def gradient(grad: Tensor, x: Tensor, factor: float) -> Gradients:
    return (widen(grad) * factor).to(x.dtype), None


TEMPLATE_SCALE = Op(plan_template_scale)
register("template_scale(Tensor x, float factor) -> Tensor", implementation, fake, gradient)
