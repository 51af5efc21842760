"""A template: the smallest op that has all the parts of a real one. docs/add_an_op.md says how to copy it."""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_ext import _check, _native, reference
from hunyuan_ext._backend import runs_native


def template_scale(x: Tensor, factor: float) -> Tensor:  # [N] -> [N]
    """x * factor.

    Any floating dtype; native for float32 and bfloat16 on CPUs with AVX2 or AVX-512 and on CUDA (float16 too).
    Raises ValueError or TypeError, naming the argument, for a wrong shape or dtype.
    """
    _check.tensor("x", x, "N")
    if not runs_native("template_scale", x):
        return reference.template_scale(x, factor)
    if torch.compiler.is_compiling():
        return torch.ops.hunyuan_ext.template_scale(x, factor)
    return _native.template_scale(x, factor)
