"""torch.library registration: schema, implementation, fake kernel and gradient formula of every native kernel.

torch.compile and torch.export see the kernels as these ops; eager calls go straight to the binding (2 us less).
`Library.define`/`impl` rather than `custom_op`, whose wrapper costs 15-30 us a call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_ext import _native, reference
from hunyuan_ext._backend import runs_native

NAMESPACE = "hunyuan_ext"
library = torch.library.Library(NAMESPACE, "DEF")


def register(schema: str, implementation, fake, backward, setup_context) -> None:
    """One op: `implementation` runs on CPU and CUDA tensors, `fake` gives shapes, the last two the gradient."""
    name = schema.partition("(")[0]
    library.define(schema)
    for key in ("CPU", "CUDA"):
        library.impl(name, implementation, key)
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=library)
    torch.library.register_autograd(f"{NAMESPACE}::{name}", backward, setup_context=setup_context, lib=library)


def widen(x: Tensor) -> Tensor:
    """float32, or float64 for float64: the precision of gradient formulas."""
    return x if x.dtype == torch.float64 else x.float()


# ---- layer_norm_modulate ----


def _layer_norm_modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    if runs_native("layer_norm_modulate", x, shift, scale) and x.dtype == shift.dtype == scale.dtype:
        return _native.layer_norm_modulate(x, shift, scale, eps)
    return reference.layer_norm_modulate(x, shift, scale, eps=eps).contiguous()


def _layer_norm_modulate_fake(x, shift, scale, eps):
    dtype = torch.promote_types(torch.promote_types(x.dtype, shift.dtype), scale.dtype)
    return torch.empty(x.shape, dtype=dtype, device=x.device)


def _layer_norm_modulate_setup(ctx, inputs, output):
    x, shift, scale, ctx.eps = inputs
    ctx.save_for_backward(x, shift, scale)


def _layer_norm_modulate_backward(ctx, grad):
    x, shift, scale = ctx.saved_tensors
    wide, grad = widen(x), widen(grad)
    centred = wide - wide.mean(-1, keepdim=True)
    inverse = torch.rsqrt(centred.square().mean(-1, keepdim=True) + ctx.eps)
    normed = centred * inverse
    inner = grad * (1 + scale[:, None])
    moved = inner - inner.mean(-1, keepdim=True) - normed * (inner * normed).mean(-1, keepdim=True)
    grad_x = (moved * inverse).to(x.dtype)
    return grad_x, grad.sum(1).to(shift.dtype), (grad * normed).sum(1).to(scale.dtype), None


register(
    "layer_norm_modulate(Tensor x, Tensor shift, Tensor scale, float eps) -> Tensor",
    _layer_norm_modulate,
    _layer_norm_modulate_fake,
    _layer_norm_modulate_backward,
    _layer_norm_modulate_setup,
)


# ---- gate_residual ----


def _gate_residual(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    if runs_native("gate_residual", x, y, gate) and x.dtype == y.dtype == gate.dtype:
        return _native.gate_residual(x, y, gate)
    return reference.gate_residual(x, y, gate).contiguous()


def _gate_residual_fake(x, y, gate):
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), gate.dtype)
    return torch.empty(x.shape, dtype=dtype, device=x.device)


def _gate_residual_setup(ctx, inputs, output):
    x, y, gate = inputs
    ctx.x_dtype = x.dtype
    ctx.save_for_backward(y, gate)


def _gate_residual_backward(ctx, grad):
    y, gate = ctx.saved_tensors
    wide = widen(grad)
    return grad.to(ctx.x_dtype), (wide * gate[:, None]).to(y.dtype), (wide * y).sum(1).to(gate.dtype)


register(
    "gate_residual(Tensor x, Tensor y, Tensor gate) -> Tensor",
    _gate_residual,
    _gate_residual_fake,
    _gate_residual_backward,
    _gate_residual_setup,
)
