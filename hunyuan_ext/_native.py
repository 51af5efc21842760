"""Calls of the native kernels: make inputs contiguous where a kernel needs it, allocate the output, run.

Only for tensors that `_backend.runs_native` accepted. One function a kernel; shared by the eager ops and by the
torch.library implementations.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from hunyuan_ext import _backend
from hunyuan_ext._types import Norms, Pair, Triple
from hunyuan_ext.block_mask import BlockMask

_C: Any = _backend.module  # runs_native says no where it is None


def rows(x: Tensor) -> Tensor:
    """x itself when its last dimension is contiguous, else a contiguous copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def is_channels_last(x: Tensor) -> bool:  # [B, C, T, H, W]
    """Whether kernels treat x as channels_last_3d; a volume that is both counts as NCDHW, one that is neither by C."""
    if x.is_contiguous():
        return False
    return x.is_contiguous(memory_format=torch.channels_last_3d) or x.stride(1) == 1


def memory_format(x: Tensor) -> torch.memory_format:
    return torch.channels_last_3d if is_channels_last(x) else torch.contiguous_format


def padded_shape(x: Tensor, pad: Triple) -> tuple[int, ...]:
    batch, channels, frames, height, width = x.shape
    return batch, channels, frames + pad[0], height + 2 * pad[1], width + 2 * pad[2]


def affine_fits(x: Tensor, *vectors: Tensor | None) -> bool:
    """Whether weights and biases have one dtype that kernels on x read: x's own, or float32."""
    dtypes = {vector.dtype for vector in vectors if vector is not None}
    return not dtypes or (len(dtypes) == 1 and dtypes <= {x.dtype, torch.float32})


def volume_fits(x: Tensor) -> bool:  # [B, C, T, H, W]
    """Whether the GroupNorm kernel takes this volume; on CUDA channels-last ones of whole 16-byte packs."""
    step = 16 // x.element_size()
    return not x.is_cuda or (is_channels_last(x) and x.shape[1] % step == 0 and x.shape[1] <= 256 * step)


def qk_fits(q: Tensor, k: Tensor, norms: Norms, rope: Pair | None) -> bool:
    """Whether dtypes suit the kernel: q and k alike, weights of one dtype, tables in float32.

    On CUDA a head must be 16 bytes times a power of two up to 32: 8 to 256 elements of two bytes.
    """
    lanes, rest = divmod(q.shape[-1] * q.element_size(), 16)
    return (
        q.dtype == k.dtype
        and affine_fits(q, *norms)
        and (rope is None or rope[0].dtype == rope[1].dtype == torch.float32)
        and (q.device.type != "cuda" or (rest == 0 and lanes in (1, 2, 4, 8, 16, 32)))
    )


def template_scale(x: Tensor, factor: float) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _C.template_scale(rows(x), factor, out, torch.get_num_threads())
    return out


def layer_norm_modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _C.layer_norm_modulate(rows(x), rows(shift), rows(scale), out, eps, torch.get_num_threads())
    return out


def gate_residual(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _C.gate_residual(rows(x), rows(y), rows(gate), out, torch.get_num_threads())
    return out


def pad_causal(x: Tensor, pad: Triple) -> Tensor:
    layout = memory_format(x)
    out = torch.empty(padded_shape(x, pad), dtype=x.dtype, device=x.device, memory_format=layout)
    _C.pad_causal(x.contiguous(memory_format=layout), out, pad, torch.get_num_threads())
    return out


def group_norm_silu(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    groups: int,
    eps: float,
    silu: bool,
    pad: Triple,
    moments: Tensor | None = None,  # [B, chunks, groups, 3], of causal_conv3d
) -> Tensor:
    layout = memory_format(x)
    out = torch.empty(padded_shape(x, pad), dtype=x.dtype, device=x.device, memory_format=layout)
    x, workspace = x.contiguous(memory_format=layout), None
    if x.is_cuda:
        x = x if x.data_ptr() % 16 == 0 else x.clone(memory_format=layout)
        size = _C.group_norm_silu_workspace(x, groups, moments is not None)
        workspace = torch.empty(size, dtype=torch.uint8, device=x.device)
    _C.group_norm_silu(x, weight, bias, out, groups, eps, silu, pad, moments, workspace, torch.get_num_threads())
    return out


def pad_slab(x: Tensor, out: Tensor, pad: Triple) -> None:  # [t, h, W, C]
    _C.pad_slab(x.contiguous(), out, pad, torch.get_num_threads())


def norm_slab(x: Tensor, affine: Tensor, out: Tensor, silu: bool, pad: Triple) -> None:  # [t, h, W, C], [3, C]
    _C.norm_slab(x.contiguous(), affine, out, silu, pad, torch.get_num_threads())


def channel_moments(x: Tensor, totals: Tensor, seen: int) -> None:  # [t, h, W, C], [3, C] float64
    _C.channel_moments(x.contiguous(), totals, seen, torch.get_num_threads())


def qk_norm_rope(
    q: Tensor,  # [B, S, H, D]
    k: Tensor,  # [B, S, H, D]
    norms: Norms,  # [D] each
    rope: Pair | None,  # cos, sin: [S - text_len, D] fp32
    text_len: int,
    eps: float,
) -> Pair:  # [B, H, S, D] each
    batch, tokens, heads, dim = q.shape
    q_out, k_out = (torch.empty((batch, heads, tokens, dim), dtype=q.dtype, device=q.device) for _ in range(2))
    ready = vectors if q.is_cuda else rows
    norms = cast(Norms, tuple(None if norm is None else ready(norm) for norm in norms))
    rope = None if rope is None else (ready(rope[0]), ready(rope[1]))
    _C.qk_norm_rope(ready(q), ready(k), q_out, k_out, norms, rope, text_len, eps, torch.get_num_threads())
    return q_out, k_out


def vectors(x: Tensor) -> Tensor:
    """x itself when a CUDA kernel can read each row 16 bytes at a time, else a contiguous copy."""
    step = 16 // x.element_size()
    outer = zip(x.shape[:-1], x.stride()[:-1], strict=True)
    if (
        x.stride(-1) == 1
        and x.data_ptr() % 16 == 0
        and all(size == 1 or (stride > 0 and stride % step == 0) for size, stride in outer)
    ):
        return x
    return x.clone(memory_format=torch.contiguous_format)


def attention_fits(q: Tensor, k: Tensor, v: Tensor, block_mask: BlockMask | None, scale: float) -> bool:
    """Whether the CUDA attention kernels take these [B, H, S, D] tensors of one dtype."""
    tiles = (128,) if block_mask is None else (block_mask.query_tile, block_mask.key_tile)
    return (
        q.shape[-1] in (64, 128)
        and q.dtype == k.dtype == v.dtype
        and 0 < scale < float("inf")
        and all(tile % 128 == 0 for tile in tiles)
    )


def fp8_fits(
    q: Tensor, k: Tensor, v: Tensor, norms: Norms, rope: Pair | None, block_mask: BlockMask | None, scale: float
) -> bool:
    """Whether the FP8 attention kernel takes these [B, S, H, D] tensors of one dtype, their norms and their tables."""
    return q.shape[-1] == 128 and attention_fits(q, k, v, block_mask, scale) and qk_fits(q, k, norms, rope)


def attention(
    q: Tensor,  # [B, H, Q, D]
    k: Tensor,  # [B, H, K, D]
    v: Tensor,  # [B, H, K, D]
    kv_len: Tensor | None,  # [B] int32, on q's device
    block_mask: BlockMask | None,  # on q's device
    scale: float,
) -> Pair:  # [B, Q, H, D], [B, H, Q] float32
    batch, heads, queries, dim = q.shape
    q, k, v = (vectors(x.transpose(1, 2)) for x in (q, k, v))
    out = torch.empty((batch, queries, heads, dim), dtype=q.dtype, device=q.device)
    lse = torch.empty((batch, heads, queries), dtype=torch.float32, device=q.device)
    _C.attention(q, k, v, out, lse, kv_len, _blocks(block_mask), scale)
    return out, lse


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
) -> Tensor:  # [B, S, H, 128]
    """Norm, rotation and quantisation in one pass, then attention of e4m3 products."""
    batch, tokens, heads, dim = q.shape
    q, k, v = (vectors(x) for x in (q, k, v))
    norm_vectors = tuple(None if norm is None else vectors(norm) for norm in norms)
    rope = None if rope is None else (vectors(rope[0]), vectors(rope[1]))
    out = torch.empty((batch, tokens, heads, dim), dtype=q.dtype, device=q.device)
    size = _C.attention_fp8_workspace(batch, tokens, tokens, heads, dim)
    workspace = torch.empty(size, dtype=torch.uint8, device=q.device)
    blocks = _blocks(block_mask)
    _C.attention_fp8(q, k, v, out, norm_vectors, rope, text_len, eps, kv_len, blocks, scale, workspace)
    return out


def _blocks(mask: BlockMask | None) -> tuple[Tensor, Tensor, int, int] | None:
    return None if mask is None else (mask.row_starts, mask.key_blocks, mask.query_tile, mask.key_tile)


def decode_fp8(weight: Tensor, scale: Tensor, out: Tensor, block: int) -> Tensor:  # [N, K] -> out [N, K]
    """Writes weight * scale into `out` (float32 or bfloat16); `block` is 0 unless scale is per block."""
    _C.decode_fp8(rows(weight), rows(scale) if scale.ndim else scale, out, block, torch.get_num_threads())
    return out
