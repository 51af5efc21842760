"""Gradients of attention: formulas in torch operations, and a native backward pass in bfloat16 on CPUs with AMX.

A formula takes the gradients of the op's outputs and the op's inputs, and returns one gradient (or None) of each input;
it computes in float32, or in float64 for float64 inputs. `RopeAttention` keeps its inputs, its output and the
log-sum-exp. Sums are float32, results are rounded once: the same bits for any number of threads. Not differentiable
twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hunyuan_ext import reference
from hunyuan_ext.block_mask import BlockMask
from hunyuan_ext.core import native
from hunyuan_ext.core.dispatch import no_gradients, trains_native
from hunyuan_ext.core.operands import qk_fits, rows
from hunyuan_ext.core.types import BFLOAT, Gradients, Norms, Pair, widen

AMX_UNIT = 2  # hunyuan_attention_unit
MAX_HEAD_DIM = 128


def rotate_back(grad: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # [B, S, H, D], [S, D]
    scaled = grad * sin[:, None]
    return grad * cos[:, None] + torch.stack((scaled[..., 1::2], -scaled[..., 0::2]), dim=-1).flatten(-2)


def rms_norm(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:  # [B, S, H, D], [D]
    inverse = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    normed, inner = x * inverse, grad * weight
    return (inner - normed * (inner * normed).mean(-1, keepdim=True)) * inverse, (grad * normed).sum((0, 1, 2))


def norm_rope(
    grad: Tensor,  # [B, H, S, D]
    x: Tensor,  # [B, S, H, D]
    norm: Tensor | None,  # [D]
    text_norm: Tensor | None,  # [D]
    rope: tuple[Tensor, Tensor] | None,  # [S - text_len, D] each
    text_len: int,
    eps: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of x and of the two norm weights, for one of q and k."""
    grad, wide = widen(grad).transpose(1, 2), widen(x)
    split = x.shape[1] - text_len
    video, text = grad[:, :split], grad[:, split:]
    if rope is not None:
        video = rotate_back(video, rope[0].to(wide.dtype), rope[1].to(wide.dtype))
    if norm is None:
        return torch.cat((video, text), dim=1).to(x.dtype), None, None
    video, grad_norm = rms_norm(video, wide[:, :split], widen(norm), eps)
    text, grad_text = rms_norm(text, wide[:, split:], widen(norm if text_norm is None else text_norm), eps)
    grad_x = torch.cat((video, text), dim=1).to(x.dtype)
    if text_norm is None:
        return grad_x, (grad_norm + grad_text).to(norm.dtype), None
    return grad_x, grad_norm.to(norm.dtype), grad_text.to(text_norm.dtype)


def attention(
    grad_out: Tensor,  # [B, Q, H, D]
    grad_lse: Tensor,  # [B, H, Q]
    q: Tensor,  # [B, H, Q, D]
    k: Tensor,  # [B, H, K, D]
    v: Tensor,  # [B, H, K, D]
    kv_len: Tensor | None,
    row_starts: Tensor | None,
    key_blocks: Tensor | None,
    query_tile: int,
    key_tile: int,
    scale: float,
) -> Gradients:
    """By recomputation, with all scores in memory; training takes torch's SDPA before it comes here."""
    mask = BlockMask.of(row_starts, key_blocks, query_tile, key_tile)
    with torch.enable_grad():
        leaves = [x.detach().transpose(1, 2).requires_grad_() for x in (q, k, v)]
        outputs = reference.attention_with_lse(*leaves, kv_len=kv_len, scale=scale, block_mask=mask)
        grads = torch.autograd.grad(outputs, leaves, (grad_out, grad_lse))
    return *(grad.transpose(1, 2) for grad in grads), *[None] * 6


def qk_norm_rope(
    grad_q: Tensor,
    grad_k: Tensor,
    q: Tensor,
    k: Tensor,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    text_q_norm: Tensor | None,
    text_k_norm: Tensor | None,
    cos: Tensor | None,
    sin: Tensor | None,
    text_len: int,
    eps: float,
) -> Gradients:
    rope = None if cos is None or sin is None else (cos, sin)
    gq, gq_norm, gq_text = norm_rope(grad_q, q, q_norm, text_q_norm, rope, text_len, eps)
    gk, gk_norm, gk_text = norm_rope(grad_k, k, k_norm, text_k_norm, rope, text_len, eps)
    return gq, gk, gq_norm, gk_norm, gq_text, gk_text, None, None, None, None


def rope_attention_fp8(
    grad: Tensor,  # [B, S, H, D]
    q: Tensor,  # [B, S, H, D]
    k: Tensor,  # [B, S, H, D]
    v: Tensor,  # [B, S, H, D]
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    text_q_norm: Tensor | None,
    text_k_norm: Tensor | None,
    cos: Tensor | None,
    sin: Tensor | None,
    text_len: int,
    eps: float,
    kv_len: Tensor | None,
    row_starts: Tensor | None,
    key_blocks: Tensor | None,
    query_tile: int,
    key_tile: int,
    scale: float,
) -> Gradients:
    """Gradients of the unquantized attention, by recomputation."""
    mask = BlockMask.of(row_starts, key_blocks, query_tile, key_tile)
    inputs = [q, k, v, q_norm, k_norm, text_q_norm, text_k_norm]
    with torch.enable_grad():
        leaves = {i: x.detach().requires_grad_() for i, x in enumerate(inputs) if x is not None}
        norms, options = [leaves.get(i) for i in range(3, 7)], (text_len, eps)
        rope = None if cos is None or sin is None else (cos, sin)
        ready_q, ready_k = (
            reference.qk_norm_rope(leaves[i], rope, norms[i], norms[2 + i], *options).to(v.dtype) for i in range(2)
        )
        out, _ = reference.attention_with_lse(ready_q, ready_k, leaves[2], kv_len=kv_len, scale=scale, block_mask=mask)
        grads = dict(zip(leaves, torch.autograd.grad(out, list(leaves.values()), grad), strict=True))
    return *(grads.get(i) for i in range(7)), *[None] * 10


class RopeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,  # [B, S, H, D]
        k: Tensor,
        v: Tensor,
        q_norm: Tensor | None,
        k_norm: Tensor | None,
        text_q_norm: Tensor | None,
        text_k_norm: Tensor | None,
        rope: Pair | None,
        text_len: int,
        lengths: list[int] | None,
        eps: float,
        scale: float,
    ) -> Tensor:  # [B, S, H, D]
        q, k, v = map(rows, (q, k, v))
        batch, tokens, heads, _ = q.shape
        out = torch.empty(q.shape, dtype=v.dtype, device="cpu")
        lse = torch.empty((batch, heads, tokens), dtype=torch.float32, device="cpu")
        norms = q_norm, k_norm, text_q_norm, text_k_norm
        rope = None if rope is None else (rows(rope[0]), rows(rope[1]))
        native.module.rope_attention(
            q, k, v, out, norms, rope, lengths, None, text_len, eps, scale, AMX_UNIT, torch.get_num_threads(), lse
        )
        ctx.save_for_backward(q, k, v, out, lse, *norms, *(rope or (None, None)))
        ctx.options = lengths, text_len, eps, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        q, k, v, out, lse, *rest = ctx.saved_tensors
        norms, rope = tuple(rest[:4]), None if rest[4] is None else tuple(rest[4:])
        grads = grad.new_empty((*q.shape[:2], 3, *q.shape[2:])).unbind(2)
        grad_norms = tuple(
            None if norm is None else torch.empty(norm.shape, dtype=torch.float32, device="cpu") for norm in norms
        )
        lengths, text_len, eps, scale = ctx.options
        native.module.rope_attention_backward(
            (q, k, v, out, lse), rows(grad), grads, grad_norms, norms, rope, lengths, text_len, eps, scale,
            AMX_UNIT, torch.get_num_threads(),
        )  # fmt: skip
        rounded = (None if g is None else g.to(norm.dtype) for g, norm in zip(grad_norms, norms, strict=True))
        return *grads, *rounded, None, None, None, None, None


def attention_fits(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rope: Pair | None,
    norms: Norms,
    kv_len: Tensor | None,
    scale: float | None,
    block_mask: BlockMask | None,
    precision: str,
) -> bool:
    """True if `RopeAttention` takes this call."""
    dim = q.shape[3]
    return (
        q.dtype == k.dtype == v.dtype == BFLOAT
        and precision in ("auto", "bf16")
        and block_mask is None
        and (scale is None or scale > 0)
        and dim % 16 == 0
        and 16 <= dim <= MAX_HEAD_DIM
        and (kv_len is None or kv_len.device.type == "cpu")
        and not (rope is not None and (rope[0].requires_grad or rope[1].requires_grad))
        and qk_fits(q, k, norms, rope)
        and trains_native(q, k, v, *norms)
        and not missing_attention()
    )


def missing_attention() -> str:
    """Why attention has no native gradients here, or ""."""
    module = native.module
    if no_gradients() or module is None:
        return no_gradients()
    return "" if module.has_attention_unit(AMX_UNIT) else "needs a processor with AMX"
