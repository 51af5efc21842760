"""Attention over video and text tokens, with QK-RMSNorm and rotary embedding fused into one pass before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext import _check, _cpu_attention, _direct, _native, _training, reference
from hunyuan_ext._backend import choice, runs_native, slow_bfloat16
from hunyuan_ext._types import Norms, Pair
from hunyuan_ext.block_mask import BlockMask

PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.bfloat16, "int8": None}


def rope_attention(
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
    block_mask: BlockMask | None = None,
    precision: str = "auto",
) -> Tensor:  # [B, S, H, D]
    """Softmax attention after RMSNorm of q and k per head and rotary embedding of the video tokens.

    rope turns interleaved pairs (2i, 2i + 1) of video tokens, after the norm. text_norms are the norm weights of the
    text tokens of a double-stream block; without them q_norm and k_norm serve all tokens. kv_len: valid tokens per
    sample, a prefix of the sequence (all video, some text), 1..S; the keys after it are skipped, not masked, when it
    is on the CPU or a CUDA kernel runs (which limits lengths on the device to 0..S, unchecked). scale: 1 / sqrt(D) by
    default. block_mask: tiles to compute; on CUDA in tiles of multiples of 128. precision: arithmetic of the attention,
    "auto" is v's dtype; "fp8" and "int8" need a device with such a kernel. The result has v's dtype.

    On CPUs float32 and bfloat16 run in one native kernel where that is faster (`capabilities()` says where and why);
    with AMX its gradients in bfloat16, too. Elsewhere norm and rotation are one native pass (float32 and bfloat16, and
    float16 on CUDA), and the attention is native for bfloat16 and head dimensions 64 and 128 on compute capability 8.x
    and 9.0, else torch's SDPA, which also has the gradients. Raises ValueError or TypeError, naming the argument, for a
    wrong shape, dtype or device.
    """
    if block_mask is None and precision == "auto":
        norms = q_norm, k_norm, *(text_norms or (None, None))
        out = _direct.rope_attention(q, k, v, rope, norms, text_len, kv_len, eps, scale)
        if out is not None:
            return out
    _check_arguments(q, k, v, rope, (q_norm, k_norm, *(text_norms or ())), text_len, kv_len, eps)
    _check.one_of("precision", precision, tuple(PRECISIONS))
    if precision == "int8":
        raise ValueError(f"precision: no {precision} attention kernel for {q.device.type}; use auto, fp32 or bf16")
    norms = q_norm, k_norm, *(text_norms or (None, None))
    if _training.attention_fits(q, k, v, rope, norms, kv_len, scale, block_mask, precision):
        lengths = None if kv_len is None else _lengths(kv_len, k.shape[1])
        return _training.RopeAttention.apply(q, k, v, *norms, rope, text_len, lengths, eps, _scale(q, scale))
    unit = _cpu_attention.unit_for(q, k, v, rope, norms, scale, block_mask, precision)
    if unit is not None and (kv_len is None or kv_len.device.type == "cpu"):
        lengths = None if kv_len is None else _lengths(kv_len, k.shape[1])
        return _cpu_attention.attend(q, k, v, unit, norms, rope, text_len, lengths, eps, scale, block_mask)
    dtype = PRECISIONS[precision] or (torch.float32 if slow_bfloat16(v) else v.dtype)
    if precision == "fp8":
        narrow = q.to(dtype), k.to(dtype), v.to(dtype)
        return _attend_fp8(*narrow, norms, rope, text_len, eps, kv_len, block_mask, scale).to(v.dtype)
    q, k = _norm_and_rotate(q, k, rope, norms, text_len, eps)
    heads = q.to(dtype), k.to(dtype), v.transpose(1, 2).to(dtype)
    return _attend(*heads, kv_len, block_mask, scale).to(v.dtype).transpose(1, 2)


def attention_with_lse(
    q: Tensor,  # [B, Q, H, D]
    k: Tensor,  # [B, K, H, D]
    v: Tensor,  # [B, K, H, D]
    *,
    kv_len: Tensor | None = None,  # [B] int
    scale: float | None = None,
    block_mask: BlockMask | None = None,
) -> Pair:  # [B, Q, H, D], [B, H, Q] float32 (float64 for float64)
    """Softmax attention that also returns the logarithm of each row's sum of exponentials of scaled scores.

    For sequence parallelism: ranks that hold parts of the keys merge their outputs with weights exp(lse). A row without
    keys (kv_len of 0, an empty list) gives zeros and -inf. Arguments as in `rope_attention`; native where that is, else
    composed from torch operations with all scores in memory.
    """
    batch, _, heads, dim = _check.tensor("q", q, "B Q H D")
    _check.like("k", k, "B K H D", (batch, k.shape[1], heads, dim), q)
    _check.like("v", v, "B K H D", tuple(k.shape), q)
    _check_lengths(kv_len, batch)
    q_heads, k_heads, v_heads = (x.transpose(1, 2) for x in (q, k, v))
    if _runs_kernel(q_heads, k_heads, v_heads, block_mask, scale):
        return _kernel(q_heads, k_heads, v_heads, kv_len, block_mask, scale)
    return reference.attention_with_lse(q, k, v, kv_len=kv_len, scale=scale, block_mask=block_mask)


def _norm_and_rotate(
    q: Tensor, k: Tensor, rope: Pair | None, norms: Norms, text_len: int, eps: float
) -> Pair:  # [B, S, H, D] -> [B, H, S, D] each
    if rope is None and norms[0] is None and norms[1] is None:
        return q.transpose(1, 2), k.transpose(1, 2)
    cos, sin = rope or (None, None)
    if not (runs_native("qk_norm_rope", q, k, *norms, cos, sin) and _native.qk_fits(q, k, norms, rope)):
        q = reference.qk_norm_rope(q, rope, norms[0], norms[2], text_len, eps)
        k = reference.qk_norm_rope(k, rope, norms[1], norms[3], text_len, eps)
        return q.transpose(1, 2), k.transpose(1, 2)
    if torch.compiler.is_compiling():
        return torch.ops.hunyuan_ext.qk_norm_rope(q, k, *norms, cos, sin, text_len, eps)
    return _native.qk_norm_rope(q, k, norms, rope, text_len, eps)


def _runs_kernel(
    q: Tensor, k: Tensor, v: Tensor, block_mask: BlockMask | None, scale: float | None
) -> bool:  # [B, H, S, D]
    return runs_native("attention", q, k, v) and _native.attention_fits(q, k, v, block_mask, _scale(q, scale))


def _scale(q: Tensor, scale: float | None) -> float:
    return q.shape[-1] ** -0.5 if scale is None else scale


def _kernel(
    q: Tensor,  # [B, H, Q, D]
    k: Tensor,  # [B, H, K, D]
    v: Tensor,  # [B, H, K, D]
    kv_len: Tensor | None,
    block_mask: BlockMask | None,
    scale: float | None,
) -> Pair:  # [B, Q, H, D], [B, H, Q]
    kv_len, mask = _lengths_on(q, k.shape[2], kv_len), _mask_on(q, block_mask)
    if torch.compiler.is_compiling():
        return torch.ops.hunyuan_ext.attention(q, k, v, kv_len, *_blocks(mask), _scale(q, scale))
    return _native.attention(q, k, v, kv_len, mask, _scale(q, scale))


def _lengths_on(q: Tensor, keys: int, kv_len: Tensor | None) -> Tensor | None:
    """kv_len as the kernels read it, int32 on the device; checked where that costs no synchronisation."""
    if kv_len is None:
        return None
    if kv_len.device.type == "cpu" and not torch.compiler.is_compiling():
        _lengths(kv_len, keys)
    return kv_len.to(device=q.device, dtype=torch.int32, non_blocking=True)


def _mask_on(q: Tensor, mask: BlockMask | None) -> BlockMask | None:
    return None if mask is None else mask.to(q.device)


def _blocks(mask: BlockMask | None) -> tuple[Tensor | None, Tensor | None, int, int]:
    return (None, None, 0, 0) if mask is None else (mask.row_starts, mask.key_blocks, mask.query_tile, mask.key_tile)


def _attend_fp8(
    q: Tensor,  # [B, S, H, D] bfloat16
    k: Tensor,  # [B, S, H, D]
    v: Tensor,  # [B, S, H, D]
    norms: Norms,
    rope: Pair | None,
    text_len: int,
    eps: float,
    kv_len: Tensor | None,
    block_mask: BlockMask | None,
    scale: float | None,
) -> Tensor:  # [B, S, H, D]
    cos, sin = rope or (None, None)
    fits = _native.fp8_fits(q, k, v, norms, rope, block_mask, _scale(q, scale))
    if not (fits and runs_native("attention_fp8", q, k, v, *norms, cos, sin)):
        why = choice("attention_fp8", q.device.type, q.dtype).reason
        raise ValueError(
            "precision: the fp8 kernel takes plain CUDA tensors of head dimension 128 without gradients on sm_90a "
            f"({why}); use auto, fp32 or bf16"
        )
    kv_len, mask = _lengths_on(q, k.shape[1], kv_len), _mask_on(q, block_mask)
    if torch.compiler.is_compiling():
        before = *norms, cos, sin, text_len, eps
        return torch.ops.hunyuan_ext.rope_attention_fp8(q, k, v, *before, kv_len, *_blocks(mask), _scale(q, scale))
    return _native.rope_attention_fp8(q, k, v, norms, rope, text_len, eps, kv_len, mask, _scale(q, scale))


def _attend(
    q: Tensor, k: Tensor, v: Tensor, kv_len: Tensor | None, block_mask: BlockMask | None, scale: float | None
) -> Tensor:  # [B, H, S, D]
    if _runs_kernel(q, k, v, block_mask, scale):
        return _kernel(q, k, v, kv_len, block_mask, scale)[0].transpose(1, 2)
    if 0 in q.shape:  # torch 2.11 on a CPU divides by the number of heads
        return q.clone()
    allowed = None if block_mask is None else block_mask.dense(q.shape[2], k.shape[2]).to(q.device)
    if kv_len is not None and (kv_len.device.type != "cpu" or torch.compiler.is_compiling()):
        # Reading the lengths would stall the device or break the graph: mask the keys instead.
        valid = (torch.arange(k.shape[2], device=q.device) < kv_len.to(q.device)[:, None])[:, None, None]
        allowed, kv_len = valid if allowed is None else valid & allowed, None
    if kv_len is None:
        return F.scaled_dot_product_attention(q, k, v, allowed, scale=scale)
    lengths = _lengths(kv_len, k.shape[2])
    if len(set(lengths)) <= 1:
        return _attend_prefix(q, k, v, lengths[0] if lengths else k.shape[2], allowed, scale)
    samples = [
        _attend_prefix(q[i : i + 1], k[i : i + 1], v[i : i + 1], length, allowed, scale)
        for i, length in enumerate(lengths)
    ]
    return torch.cat(samples)


def _attend_prefix(q: Tensor, k: Tensor, v: Tensor, length: int, allowed: Tensor | None, scale: float | None) -> Tensor:
    mask = None if allowed is None else allowed[:, :length]
    return F.scaled_dot_product_attention(q, k[:, :, :length], v[:, :, :length], mask, scale=scale)


def _lengths(kv_len: Tensor, keys: int) -> list[int]:
    lengths = kv_len.tolist()
    for length in lengths:
        if not 1 <= length <= keys:
            raise ValueError(f"kv_len: {length} valid tokens, but 1 to {keys} are possible")
    return lengths


def _check_arguments(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rope: Pair | None,
    norms: tuple[Tensor | None, ...],
    text_len: int,
    kv_len: Tensor | None,
    eps: float,
) -> None:
    batch, tokens, _, dim = shape = _check.tensor("q", q, "B S H D")
    _check.like("k", k, "B S H D", shape, q)
    _check.like("v", v, "B S H D", shape, q)
    if not 0 <= text_len <= tokens:
        raise ValueError(f"text_len: {text_len} text tokens, but q has {tokens} tokens in all")
    for name, norm in zip(("q_norm", "k_norm", "text_norms[0]", "text_norms[1]"), norms, strict=False):
        if norm is not None:
            _check.like(name, norm, "D", (dim,), q)
    if rope is not None:
        for name, table in zip(("rope[0] (cos)", "rope[1] (sin)"), rope, strict=True):
            _check.like(name, table, "S-text_len D", (tokens - text_len, dim), q)
        if dim % 2:
            raise ValueError(f"rope: pairs need an even head dimension, q has {dim}")
    _check_lengths(kv_len, batch)
    _check.positive("eps", eps)


def _check_lengths(kv_len: Tensor | None, batch: int) -> None:
    if kv_len is not None and (kv_len.dtype.is_floating_point or tuple(kv_len.shape) != (batch,)):
        raise ValueError(f"kv_len: an integer tensor [{batch}] is needed, got {_check.described(kv_len)}")
