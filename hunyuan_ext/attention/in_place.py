"""rope_attention over tensors that are needed no longer: its result and its intermediate values take their memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hunyuan_ext.attention import (
    _beside,
    _check_arguments,
    cuda,
    fp8_kernel,
    norm_rope,
    parts_kernels,
    rope_attention,
)
from hunyuan_ext.core.operands import vectors
from hunyuan_ext.core.types import BFLOAT, Norms, Pair


def rope_attention_(
    q: Tensor,  # [B, S, H, D] video tokens first, then text_len text tokens
    k: Tensor,  # [B, S, H, D]
    v: Tensor,  # [B, S, H, D]
    *,
    rope: Pair | None = None,  # cos, sin: [S - text_len, D] fp32
    q_norm: Tensor | None = None,  # [D]
    k_norm: Tensor | None = None,  # [D]
    text_len: int = 0,
    text_norms: Pair | None = None,  # q, k: [D]
    kv_len: Tensor | None = None,  # [B] int
    eps: float = 1e-6,
    scale: float | None = None,
    precision: str = "auto",
) -> Tensor:  # [B, S, H, D]
    """`rope_attention` with the same values, which may overwrite q, k and v: none of them may be read afterwards.

    The native kernels of CUDA write their result over q and the normed keys over k: a call needs no more memory than
    its inputs, and in FP8 the codes. They must not overlap. Everywhere else a tensor of its own is returned. Raises
    what `rope_attention` does.
    """
    options = dict(rope=rope, q_norm=q_norm, k_norm=k_norm, text_len=text_len, text_norms=text_norms, kv_len=kv_len)
    norms = q_norm, k_norm, *(text_norms or (None, None))
    run = _kernels(q, k, v, norms, rope, scale, precision)
    if run is None:
        return rope_attention(q, k, v, **options, eps=eps, scale=scale, precision=precision)  # type: ignore[arg-type]
    _check_arguments(q, k, v, rope, norms, text_len, kv_len, eps)
    lengths, _, scale = _beside(q, k.shape[1], kv_len, None, scale)
    return run(q, k, v, norms, rope, text_len, eps, lengths, scale)


def _kernels(
    q: Tensor, k: Tensor, v: Tensor, norms: Norms, rope: Pair | None, scale: float | None, precision: str
) -> Callable[..., Tensor] | None:
    """The function that runs a call in place, or None."""
    if torch.compiler.is_compiling() or not all(vectors(x) is x for x in (q, k, v)):
        return None
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if precision == "fp8":
        fits = q.dtype == k.dtype == v.dtype == BFLOAT and fp8_kernel(q, k, v, norms, rope, None, scale)
        if not fits or cuda.fp8_pays(q.shape[1], None):
            return _fp8 if fits else None
        precision = "bf16"
    if precision in ("auto", "bf16") and q.dtype == k.dtype == v.dtype == BFLOAT:
        return _bf16 if all(parts_kernels(q, k, v, norms, rope, None, scale, BFLOAT)) else None
    return None


def _fp8(q, k, v, norms, rope, text_len, eps, lengths, scale):  # the first pass has read q when the second writes it
    return cuda.rope_attention_fp8(q, k, v, norms, rope, text_len, eps, lengths, None, scale, out=q)


def _bf16(q, k, v, norms, rope, text_len, eps, lengths, scale):  # a tile of q is read by the block that writes it
    if rope is not None or any(norm is not None for norm in norms):
        norm_rope.qk_norm_rope_(q, k, norms, rope, text_len, eps)
    q_heads, k_heads, v_heads = (x.transpose(1, 2) for x in (q, k, v))
    return cuda.attention(q_heads, k_heads, v_heads, lengths, None, scale, out=q)[0]
