"""torch.library registration: schema, implementation, fake kernel and gradient formula of every native kernel.

torch.compile and torch.export see the kernels as these ops; eager calls go straight to the binding (2 us less).
`Library.define`/`impl` rather than `custom_op`, whose wrapper costs 15-30 us a call. The implementations take any
floating dtype: what has no kernel is composed, with the same strides as the kernel's output.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import cast

import torch
from torch import Tensor

from hunyuan_ext import _cuda, _gradients, _native, reference
from hunyuan_ext._backend import runs_native
from hunyuan_ext._types import Triple
from hunyuan_ext.block_mask import BlockMask

NAMESPACE = "hunyuan_ext"
library = torch.library.Library(NAMESPACE, "DEF")


def register(schema: str, implementation: Callable, fake: Callable, gradient: Callable | None) -> None:
    """One op: `implementation` runs on CPU and CUDA tensors, `fake` gives shapes, `gradient` the backward, if any."""
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


def template_scale(x: Tensor, factor: float) -> Tensor:
    if runs_native("template_scale", x):
        return _native.template_scale(x, factor)
    return reference.template_scale(x, factor).contiguous()


def template_scale_fake(x, factor):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


register(
    "template_scale(Tensor x, float factor) -> Tensor", template_scale, template_scale_fake, _gradients.template_scale
)


def layer_norm_modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    if runs_native("layer_norm_modulate", x, shift, scale) and x.dtype == shift.dtype == scale.dtype:
        return _native.layer_norm_modulate(x, shift, scale, eps)
    return reference.layer_norm_modulate(x, shift, scale, eps=eps).contiguous()


def layer_norm_modulate_fake(x, shift, scale, eps):
    return torch.empty(x.shape, dtype=promoted(x, shift, scale), device=x.device)


register(
    "layer_norm_modulate(Tensor x, Tensor shift, Tensor scale, float eps) -> Tensor",
    layer_norm_modulate,
    layer_norm_modulate_fake,
    _gradients.layer_norm_modulate,
)


def gate_residual(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    if runs_native("gate_residual", x, y, gate) and x.dtype == y.dtype == gate.dtype:
        return _native.gate_residual(x, y, gate)
    return reference.gate_residual(x, y, gate).contiguous()


def gate_residual_fake(x, y, gate):
    return torch.empty(x.shape, dtype=promoted(x, y, gate), device=x.device)


register(
    "gate_residual(Tensor x, Tensor y, Tensor gate) -> Tensor",
    gate_residual,
    gate_residual_fake,
    _gradients.gate_residual,
)


def pad_causal(x: Tensor, pad: list[int]) -> Tensor:
    sides = cast(Triple, tuple(pad))
    if runs_native("pad_causal", x):
        return _native.pad_causal(x, sides)
    out = reference.pad_causal(x, sides).contiguous(memory_format=_native.memory_format(x))
    return out if any(pad) else out.clone()


def pad_causal_fake(x, pad):
    shape = _native.padded_shape(x, tuple(pad))
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_native.memory_format(x))


register("pad_causal(Tensor x, SymInt[] pad) -> Tensor", pad_causal, pad_causal_fake, _gradients.pad_causal)


def group_norm_silu(x, weight, bias, groups, eps, silu, pad):
    fits = _native.affine_fits(x, weight, bias) and _native.volume_fits(x)
    if runs_native("group_norm_silu", x, weight, bias) and fits:
        return _native.group_norm_silu(x, weight, bias, groups, eps, silu, tuple(pad))
    out = reference.group_norm_silu(x, weight, bias, groups=groups, eps=eps, silu=silu, pad=tuple(pad))
    return out.contiguous(memory_format=_native.memory_format(x))


def group_norm_silu_fake(x, weight, bias, groups, eps, silu, pad):
    return pad_causal_fake(x, pad)


register(
    "group_norm_silu(Tensor x, Tensor? weight, Tensor? bias, int groups, float eps, bool silu, SymInt[] pad) -> Tensor",
    group_norm_silu,
    group_norm_silu_fake,
    _gradients.group_norm_silu,
)


def causal_conv3d(x, weight, bias, residual, stride):
    steps = cast(Triple, tuple(stride))
    if runs_native("causal_conv3d", x, weight, bias, residual) and _cuda.conv_fits(x, weight, bias, residual, steps):
        return _cuda.causal_conv3d(x, weight, bias, residual, steps)[0]
    out = torch.nn.functional.conv3d(x, weight, bias, stride)
    out = out if residual is None else out + residual
    return out.contiguous(memory_format=conv_format(x, weight))


def conv_format(x: Tensor, weight: Tensor) -> torch.memory_format:
    last = _native.is_channels_last(x) or _native.is_channels_last(weight)
    return torch.channels_last_3d if last else torch.contiguous_format


def causal_conv3d_fake(x, weight, bias, residual, stride):
    volume = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], weight.shape[2:], stride, strict=True)]
    shape = x.shape[0], weight.shape[0], *volume
    dtype = x.dtype if residual is None else promoted(x, residual)
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=conv_format(x, weight))


register(
    "causal_conv3d(Tensor x, Tensor weight, Tensor? bias, Tensor? residual, SymInt[] stride) -> Tensor",
    causal_conv3d,
    causal_conv3d_fake,
    _gradients.causal_conv3d,
)


def qk_norm_rope(q, k, q_norm, k_norm, text_q_norm, text_k_norm, cos, sin, text_len, eps):
    norms = q_norm, k_norm, text_q_norm, text_k_norm
    rope = None if cos is None else (cos, sin)
    if runs_native("qk_norm_rope", q, k, *norms, cos, sin) and _native.qk_fits(q, k, norms, rope):
        return _native.qk_norm_rope(q, k, norms, rope, text_len, eps)
    q_out = reference.qk_norm_rope(q, rope, q_norm, text_q_norm, text_len, eps)
    k_out = reference.qk_norm_rope(k, rope, k_norm, text_k_norm, text_len, eps)
    return head_major(q_out, q.dtype), head_major(k_out, k.dtype)


def head_major(x: Tensor, dtype: torch.dtype) -> Tensor:  # [B, S, H, D] -> [B, H, S, D], a copy
    return x.transpose(1, 2).to(dtype).clone(memory_format=torch.contiguous_format)


def qk_norm_rope_fake(q, k, q_norm, k_norm, text_q_norm, text_k_norm, cos, sin, text_len, eps):
    batch, tokens, heads, dim = q.shape
    return tuple(torch.empty((batch, heads, tokens, dim), dtype=x.dtype, device=x.device) for x in (q, k))


register(
    "qk_norm_rope(Tensor q, Tensor k, Tensor? q_norm, Tensor? k_norm, Tensor? text_q_norm, Tensor? text_k_norm, "
    "Tensor? cos, Tensor? sin, SymInt text_len, float eps) -> (Tensor, Tensor)",
    qk_norm_rope,
    qk_norm_rope_fake,
    _gradients.qk_norm_rope,
)


def attention(q, k, v, kv_len, row_starts, key_blocks, query_tile, key_tile, scale):
    mask = BlockMask.of(row_starts, key_blocks, query_tile, key_tile)
    if runs_native("attention", q, k, v) and _native.attention_fits(q, k, v, mask, scale):
        return _native.attention(q, k, v, kv_len, mask, scale)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out, lse = reference.attention_with_lse(q, k, v, kv_len=kv_len, scale=scale, block_mask=mask)
    return out.contiguous(), lse.contiguous()


def attention_fake(q, k, v, kv_len, row_starts, key_blocks, query_tile, key_tile, scale):
    batch, heads, queries, dim = q.shape
    lse_dtype = torch.promote_types(q.dtype, torch.float32)
    return (
        torch.empty((batch, queries, heads, dim), dtype=v.dtype, device=q.device),
        torch.empty((batch, heads, queries), dtype=lse_dtype, device=q.device),
    )


register(
    "attention(Tensor q, Tensor k, Tensor v, Tensor? kv_len, Tensor? row_starts, Tensor? key_blocks, int query_tile, "
    "int key_tile, float scale) -> (Tensor, Tensor)",
    attention,
    attention_fake,
    _gradients.attention,
)


def rope_attention_fp8(
    q, k, v, q_norm, k_norm, text_q_norm, text_k_norm, cos, sin, text_len, eps, kv_len, row_starts, key_blocks,
    query_tile, key_tile, scale,
):  # fmt: skip
    norms, rope = (q_norm, k_norm, text_q_norm, text_k_norm), None if cos is None else (cos, sin)
    mask = BlockMask.of(row_starts, key_blocks, query_tile, key_tile)
    fits = _native.fp8_fits(q, k, v, norms, rope, mask, scale)
    if fits and runs_native("attention_fp8", q, k, v, *norms, cos, sin):
        return _native.rope_attention_fp8(q, k, v, norms, rope, text_len, eps, kv_len, mask, scale)
    q = reference.qk_norm_rope(q, rope, q_norm, text_q_norm, text_len, eps).to(v.dtype)
    k = reference.qk_norm_rope(k, rope, k_norm, text_k_norm, text_len, eps).to(v.dtype)
    return reference.attention_with_lse(q, k, v, kv_len=kv_len, scale=scale, block_mask=mask)[0].contiguous()


def rope_attention_fp8_fake(q, k, v, *_):
    return torch.empty(q.shape, dtype=v.dtype, device=q.device)


register(
    "rope_attention_fp8(Tensor q, Tensor k, Tensor v, Tensor? q_norm, Tensor? k_norm, Tensor? text_q_norm, "
    "Tensor? text_k_norm, Tensor? cos, Tensor? sin, SymInt text_len, float eps, Tensor? kv_len, Tensor? row_starts, "
    "Tensor? key_blocks, int query_tile, int key_tile, float scale) -> Tensor",
    rope_attention_fp8,
    rope_attention_fp8_fake,
    _gradients.rope_attention_fp8,
)
