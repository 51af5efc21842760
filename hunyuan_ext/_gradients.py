"""Gradient formulas of the native kernels, in plain torch operations: float32, or float64 for float64 inputs.

Each takes the gradient of the op's output and the op's inputs, and returns one gradient (or None) an input.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_ext import reference
from hunyuan_ext.block_mask import BlockMask

Gradients = tuple[Tensor | None, ...]


def widen(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def template_scale(grad: Tensor, x: Tensor, factor: float) -> Gradients:
    return (widen(grad) * factor).to(x.dtype), None


def layer_norm_modulate(grad: Tensor, x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Gradients:
    grad, wide = widen(grad), widen(x)
    centred = wide - wide.mean(-1, keepdim=True)
    inverse = torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
    normed = centred * inverse
    inner = grad * (1 + scale[:, None])
    moved = inner - inner.mean(-1, keepdim=True) - normed * (inner * normed).mean(-1, keepdim=True)
    return (moved * inverse).to(x.dtype), grad.sum(1).to(shift.dtype), (grad * normed).sum(1).to(scale.dtype), None


def gate_residual(grad: Tensor, x: Tensor, y: Tensor, gate: Tensor) -> Gradients:
    wide = widen(grad)
    return grad.to(x.dtype), (wide * gate[:, None]).to(y.dtype), (wide * y).sum(1).to(gate.dtype)


def unpad(grad: Tensor, x: Tensor, pad: list[int]) -> Tensor:
    """Gradient of replicate padding: every copy's gradient goes to the element it was copied from."""
    sides = [pad[2], pad[2], pad[1], pad[1], pad[0], 0]
    if not any(pad):
        return widen(grad)
    return torch.ops.aten.replication_pad3d_backward(widen(grad).contiguous(), widen(x), sides)


def pad_causal(grad: Tensor, x: Tensor, pad: list[int]) -> Gradients:
    return unpad(grad, x, pad).to(x.dtype), None


def causal_conv3d(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, stride: list[int]
) -> Gradients:
    sizes = None if bias is None else [bias.shape[0]]
    grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        grad.to(x.dtype), x, weight, sizes, list(stride), [0, 0, 0], [1, 1, 1], False, [0, 0, 0], 1,
        [True, True, bias is not None],
    )  # fmt: skip
    grad_residual = None if residual is None else grad.to(residual.dtype)
    return grad_x, grad_weight, None if bias is None else grad_bias.to(bias.dtype), grad_residual, None


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
    centred = wide - grouped_mean(wide)
    inverse = torch.rsqrt(grouped_mean(centred.square()) + eps)
    normed = centred * inverse
    if silu:
        z = normed * per_channel(weight, 1.0) + per_channel(bias, 0.0)
        sigmoid = torch.sigmoid(z)
        grad = grad * sigmoid * (1 + z * (1 - sigmoid))
    inner = grad * per_channel(weight, 1.0)
    grad_x = (inner - grouped_mean(inner) - normed * grouped_mean(inner * normed)) * inverse
    grad_weight = None if weight is None else (grad * normed).sum((0, 2, 3, 4)).to(weight.dtype)
    grad_bias = None if bias is None else grad.sum((0, 2, 3, 4)).to(bias.dtype)
    return grad_x.to(x.dtype), grad_weight, grad_bias, None, None, None, None


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
    """Those of exact arithmetic, by recomputation."""
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
