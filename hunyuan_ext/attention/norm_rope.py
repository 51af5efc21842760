"""Norm and rotation of queries and keys in a pass of its own, where attention does not do them itself: CPU and CUDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from hunyuan_ext import reference
from hunyuan_ext.attention import autograd
from hunyuan_ext.core import native, plain
from hunyuan_ext.core.dispatch import kernel, takes
from hunyuan_ext.core.library import register
from hunyuan_ext.core.operands import in_rows, qk_fits, rows, vectors
from hunyuan_ext.core.types import BFLOAT, FLOAT, HALF, Norms, Pair

kernel("qk_norm_rope", cpu=(FLOAT, BFLOAT), cuda=(FLOAT, BFLOAT, HALF))


def planned(q: Tensor, k: Tensor, norms: Norms, rope: Pair | None) -> Callable[..., Pair]:
    """The function that runs calls with tensors like these."""
    operands = [x for x in (q, k, *norms, *(rope or ())) if x is not None]
    return _run if plain.device_type(q) != "cuda" and all(map(in_rows, operands)) else qk_norm_rope


def qk_norm_rope(
    q: Tensor,  # [B, S, H, D]
    k: Tensor,  # [B, S, H, D]
    norms: Norms,  # [D] each
    rope: Pair | None,  # cos, sin: [S - text_len, D] fp32
    text_len: int,
    eps: float,
) -> Pair:  # [B, H, S, D] each
    ready = vectors if plain.device_type(q) == "cuda" else rows
    norms = cast(Norms, tuple(None if norm is None else ready(norm) for norm in norms))
    rope = None if rope is None else (ready(rope[0]), ready(rope[1]))
    return _run(ready(q), ready(k), norms, rope, text_len, eps)


def _run(q: Tensor, k: Tensor, norms: Norms, rope: Pair | None, text_len: int, eps: float) -> Pair:
    """For tensors that the kernel reads as they are."""
    batch, tokens, heads, dim = q.shape
    q_out, k_out = (torch.empty((batch, heads, tokens, dim), dtype=q.dtype, device=q.device) for _ in range(2))
    heads_last = q_out.transpose(1, 2), k_out.transpose(1, 2)
    native.module.qk_norm_rope(q, k, *heads_last, norms, rope, text_len, eps, torch.get_num_threads())
    return q_out, k_out


def qk_norm_rope_(q: Tensor, k: Tensor, norms: Norms, rope: Pair | None, text_len: int, eps: float) -> None:
    """qk_norm_rope that writes over q and k [B, S, H, D], which `vectors` leaves as they are."""
    norms = cast(Norms, tuple(None if norm is None else vectors(norm) for norm in norms))
    rope = None if rope is None else (vectors(rope[0]), vectors(rope[1]))
    native.module.qk_norm_rope(q, k, q, k, norms, rope, text_len, eps, torch.get_num_threads())


def _qk_norm_rope(q, k, q_norm, k_norm, text_q_norm, text_k_norm, cos, sin, text_len, eps):
    norms = q_norm, k_norm, text_q_norm, text_k_norm
    rope = None if cos is None else (cos, sin)
    if takes("qk_norm_rope", q, k, *norms, cos, sin) and qk_fits(q, k, norms, rope):
        return qk_norm_rope(q, k, norms, rope, text_len, eps)
    q_out = reference.qk_norm_rope(q, rope, q_norm, text_q_norm, text_len, eps)
    k_out = reference.qk_norm_rope(k, rope, k_norm, text_k_norm, text_len, eps)
    return head_major(q_out, q.dtype), head_major(k_out, k.dtype)


def head_major(x: Tensor, dtype: torch.dtype) -> Tensor:  # [B, S, H, D] -> [B, H, S, D], a copy
    return x.transpose(1, 2).to(dtype).clone(memory_format=torch.contiguous_format)


def _qk_norm_rope_fake(q, k, q_norm, k_norm, text_q_norm, text_k_norm, cos, sin, text_len, eps):
    batch, tokens, heads, dim = q.shape
    return tuple(torch.empty((batch, heads, tokens, dim), dtype=x.dtype, device=x.device) for x in (q, k))


register(
    "qk_norm_rope(Tensor q, Tensor k, Tensor? q_norm, Tensor? k_norm, Tensor? text_q_norm, Tensor? text_k_norm, "
    "Tensor? cos, Tensor? sin, SymInt text_len, float eps) -> (Tensor, Tensor)",
    _qk_norm_rope,
    _qk_norm_rope_fake,
    autograd.qk_norm_rope,
)
