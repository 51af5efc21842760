"""Kernels of attention on CUDA: their calls and library ops."""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_ext import reference
from hunyuan_ext.attention import autograd
from hunyuan_ext.block_mask import BlockMask
from hunyuan_ext.core import check, native
from hunyuan_ext.core.dispatch import kernel, takes
from hunyuan_ext.core.library import register
from hunyuan_ext.core.operands import contiguous_strides, vectors
from hunyuan_ext.core.types import BFLOAT, FLOAT, Norms, Pair

kernel(
    "attention",
    cuda=(BFLOAT,),
    tensor_cores={"sm_80": "mma.sync", "sm_89": "mma.sync", "sm_90a": "wgmma and TMA"},
)
kernel("attention_fp8", cuda=(BFLOAT,), tensor_cores={"sm_90a": "wgmma and TMA"})

FP8_TOKENS = 8192  # below, the pass that makes codes takes longer than FP8 products save (measured on an H200)


def attention_fits(head_dim: int, block_mask: BlockMask | None, scale: float) -> bool:
    """True if the attention kernels take q, k and v of one dtype with heads of this size."""
    tiles = (128,) if block_mask is None else (block_mask.query_tile, block_mask.key_tile)
    return head_dim in (64, 128) and 0 < scale < float("inf") and all(tile % 128 == 0 for tile in tiles)


def fp8_fits(q: Tensor, norms: Norms, rope: Pair | None, block_mask: BlockMask | None, scale: float) -> bool:
    """True if the FP8 attention kernel takes these norms and tables with q, k and v of bfloat16."""
    weights = {norm.dtype for norm in norms if norm is not None}
    return (
        q.shape[-1] == 128
        and attention_fits(128, block_mask, scale)
        and len(weights) <= 1
        and weights <= {BFLOAT, FLOAT}
        and (rope is None or rope[0].dtype == rope[1].dtype == FLOAT)
    )


def fp8_pays(tokens: int, block_mask: BlockMask | None) -> bool:
    """True if FP8 attention of so many tokens takes less time than bfloat16, with the passes before it."""
    return block_mask is not None or tokens >= FP8_TOKENS


def lists_of(mask: BlockMask | None) -> tuple[Tensor, Tensor, int, int] | None:
    """A block mask as the native module takes it."""
    return None if mask is None else (mask.row_starts, mask.key_blocks, mask.query_tile, mask.key_tile)


def attention(
    q: Tensor,  # [B, H, Q, D]
    k: Tensor,  # [B, H, K, D]
    v: Tensor,  # [B, H, K, D]
    kv_len: Tensor | None,  # [B] int32, on q's device
    block_mask: BlockMask | None,  # on q's device
    scale: float,
    out: Tensor | None = None,  # [B, Q, H, D]; may be q's memory
) -> Pair:  # [B, Q, H, D], [B, H, Q] float32
    batch, heads, queries, dim = q.shape
    q, k, v = (vectors(x.transpose(1, 2)) for x in (q, k, v))
    out = torch.empty((batch, queries, heads, dim), dtype=q.dtype, device=q.device) if out is None else out
    lse = torch.empty((batch, heads, queries), dtype=FLOAT, device=q.device)
    native.module.attention(q, k, v, out, lse, kv_len, lists_of(block_mask), scale)
    return out, lse


class NormRopeAttention:
    """Both kernels for tensors like those of one plan: what they need is worked out once, a call allocates and runs.

    For [B, S, H, D] tensors of one dtype, heads and norms that `attention_fits` and `qk_fits` accept.
    """

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, norms: Norms, rope: Pair | None):
        batch, tokens, heads, dim = q.shape
        self.dtype, self.device, self.scale = q.dtype, q.device, dim**-0.5
        shape, sums = (batch, tokens, heads, dim), (batch, heads, tokens)
        self.token_major, self.sums = (shape, contiguous_strides(shape)), (sums, contiguous_strides(sums))
        self.head_major = shape, (heads * tokens * dim, dim, tokens * dim, 1)  # as memory: [B, H, S, D]
        self.rotates = rope is not None or norms[0] is not None or norms[1] is not None
        operands = (q, k, v, *norms, *(rope or ()))
        self.run = self.call if all(x is None or vectors(x) is x for x in operands) else self.copy_and_call

    def call(self, q, k, v, norms, rope, text_len, kv_len, eps, scale, block_mask):  # -> [B, S, H, D]
        dtype, device, module, empty = self.dtype, self.device, native.module, torch.empty_strided
        if self.rotates:
            q_out = empty(*self.head_major, dtype=dtype, device=device)
            k_out = empty(*self.head_major, dtype=dtype, device=device)
            module.qk_norm_rope(q, k, q_out, k_out, norms, rope, text_len, eps, 1)
            q, k = q_out, k_out
        out = empty(*self.token_major, dtype=dtype, device=device)
        lse = empty(*self.sums, dtype=FLOAT, device=device)
        lengths = None if kv_len is None else lengths_on(device, k.shape[1], kv_len)
        blocks = None if block_mask is None else lists_of(block_mask.to(device))
        module.attention(q, k, v, out, lse, lengths, blocks, self.scale if scale is None else scale)
        return out

    def copy_and_call(self, q, k, v, norms, rope, *others):
        norms = tuple(None if norm is None else vectors(norm) for norm in norms)
        rope = None if rope is None else (vectors(rope[0]), vectors(rope[1]))
        return self.call(vectors(q), vectors(k), vectors(v), norms, rope, *others)


def rope_attention_fp8(
    q: Tensor,  # [B, S, H, 128] bfloat16
    k: Tensor,  # [B, S, H, 128]
    v: Tensor,  # [B, S, H, 128]
    norms: Norms,  # [128] each
    rope: Pair | None,  # cos, sin: [S - text_len, 128] fp32
    text_len: int,
    eps: float,
    kv_len: Tensor | None,  # [B] int32, on q's device
    block_mask: BlockMask | None,  # on q's device
    scale: float,
    out: Tensor | None = None,  # [B, S, H, 128]; may be q
) -> Tensor:  # [B, S, H, 128]
    """Norm, rotation and quantization in one pass, then attention of e4m3 products."""
    batch, tokens, heads, dim = q.shape
    q, k, v = (vectors(x) for x in (q, k, v))
    norm_vectors = tuple(None if norm is None else vectors(norm) for norm in norms)
    rope = None if rope is None else (vectors(rope[0]), vectors(rope[1]))
    out = torch.empty((batch, tokens, heads, dim), dtype=q.dtype, device=q.device) if out is None else out
    size = native.module.attention_fp8_workspace(batch, tokens, tokens, heads, dim)
    workspace = torch.empty(size, dtype=torch.uint8, device=q.device)
    blocks = lists_of(block_mask)
    native.module.attention_fp8(q, k, v, out, norm_vectors, rope, text_len, eps, kv_len, blocks, scale, workspace)
    return out


def lengths_on(device: torch.device, keys: int, kv_len: Tensor | None) -> Tensor | None:
    """kv_len as the kernels read it, int32 on the device; checked where that costs no synchronization."""
    if kv_len is None:
        return None
    if kv_len.device.type == "cpu" and not torch.compiler.is_compiling():
        check.lengths(kv_len, keys)
    return kv_len.to(device=device, dtype=torch.int32, non_blocking=True)


def _attention(q, k, v, kv_len, row_starts, key_blocks, query_tile, key_tile, scale):
    mask = BlockMask.of(row_starts, key_blocks, query_tile, key_tile)
    alike = q.dtype == k.dtype == v.dtype
    if alike and takes("attention", q, k, v) and attention_fits(q.shape[-1], mask, scale):
        return attention(q, k, v, kv_len, mask, scale)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out, lse = reference.attention_with_lse(q, k, v, kv_len=kv_len, scale=scale, block_mask=mask)
    return out.contiguous(), lse.contiguous()


def _attention_fake(q, k, v, kv_len, row_starts, key_blocks, query_tile, key_tile, scale):
    batch, heads, queries, dim = q.shape
    lse_dtype = torch.promote_types(q.dtype, torch.float32)
    return (
        torch.empty((batch, queries, heads, dim), dtype=v.dtype, device=q.device),
        torch.empty((batch, heads, queries), dtype=lse_dtype, device=q.device),
    )


register(
    "attention(Tensor q, Tensor k, Tensor v, Tensor? kv_len, Tensor? row_starts, Tensor? key_blocks, int query_tile, "
    "int key_tile, float scale) -> (Tensor, Tensor)",
    _attention,
    _attention_fake,
    autograd.attention,
)


def _rope_attention_fp8(
    q, k, v, q_norm, k_norm, text_q_norm, text_k_norm, cos, sin, text_len, eps, kv_len, row_starts, key_blocks,
    query_tile, key_tile, scale,
):  # fmt: skip
    norms, rope = (q_norm, k_norm, text_q_norm, text_k_norm), None if cos is None else (cos, sin)
    mask = BlockMask.of(row_starts, key_blocks, query_tile, key_tile)
    fits = q.dtype == k.dtype == v.dtype and fp8_fits(q, norms, rope, mask, scale)
    if fits and takes("attention_fp8", q, k, v, *norms, cos, sin):
        return rope_attention_fp8(q, k, v, norms, rope, text_len, eps, kv_len, mask, scale)
    q = reference.qk_norm_rope(q, rope, q_norm, text_q_norm, text_len, eps).to(v.dtype)
    k = reference.qk_norm_rope(k, rope, k_norm, text_k_norm, text_len, eps).to(v.dtype)
    return reference.attention_with_lse(q, k, v, kv_len=kv_len, scale=scale, block_mask=mask)[0].contiguous()


def _rope_attention_fp8_fake(q, k, v, *_):
    return torch.empty(q.shape, dtype=v.dtype, device=q.device)


register(
    "rope_attention_fp8(Tensor q, Tensor k, Tensor v, Tensor? q_norm, Tensor? k_norm, Tensor? text_q_norm, "
    "Tensor? text_k_norm, Tensor? cos, Tensor? sin, SymInt text_len, float eps, Tensor? kv_len, Tensor? row_starts, "
    "Tensor? key_blocks, int query_tile, int key_tile, float scale) -> Tensor",
    _rope_attention_fp8,
    _rope_attention_fp8_fake,
    autograd.rope_attention_fp8,
)
