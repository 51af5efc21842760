"""Registration with torch.library: what torch.compile, torch.export and autograd see.

`torch.ops.hunyuan_ext.X` are what graphs hold. Their implementation decides like the eager ops: what has no kernel is
composed, with the same strides as the kernel's output.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

NAMESPACE = "hunyuan_ext"
library = torch.library.Library(NAMESPACE, "DEF")


def register(schema: str, implementation: Callable, fake: Callable, gradient: Callable | None) -> None:
    """One op: `implementation` runs on CPU and CUDA tensors, `fake` gives shapes, `gradient` the backward, if any.

    gradient(*gradients of the outputs, *inputs) returns one gradient, or None, of each input.
    """
    name = schema.partition("(")[0]
    library.define(schema)
    for key in ("CPU", "CUDA"):
        library.impl(name, implementation, key)
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=library)
    if gradient is None:
        return

    def setup_context(ctx, inputs, output):
        ctx.is_tensor = [isinstance(value, Tensor) for value in inputs]
        ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
        ctx.others = [None if isinstance(value, Tensor) else value for value in inputs]

    def backward(ctx, *grads):
        saved = iter(ctx.saved_tensors)
        inputs = [
            next(saved) if is_tensor else other for is_tensor, other in zip(ctx.is_tensor, ctx.others, strict=True)
        ]
        return gradient(*grads, *inputs)

    torch.library.register_autograd(f"{NAMESPACE}::{name}", backward, setup_context=setup_context, lib=library)


def promoted(*tensors: Tensor) -> torch.dtype:
    return reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
