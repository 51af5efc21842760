"""Operands of kernels: which layout, alignment and types they read, and copies of what differs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from hunyuan_ext.core import plain
from hunyuan_ext.core.types import FLOAT, Norms, Pair, Triple

LAST = torch.channels_last_3d


def in_rows(x: Tensor) -> bool:
    """True if the last dimension is contiguous."""
    return x.stride(-1) == 1 or x.shape[-1] == 1


def rows(x: Tensor) -> Tensor:
    """x itself when its last dimension is contiguous, else a contiguous copy."""
    return x if in_rows(x) else x.contiguous()


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


def aligned(x: Tensor | None) -> Tensor | None:
    """x contiguous from a multiple of 16 bytes on."""
    if x is None or (x.is_contiguous() and x.data_ptr() % 16 == 0):
        return x
    return x.clone(memory_format=torch.contiguous_format)


def aligned_rows(x: Tensor) -> Tensor:  # [..., K]
    """x, or a copy of it, whose rows start at multiples of 16 bytes."""
    x = rows(x)
    step = 16 // x.element_size()
    if x.data_ptr() % 16 == 0 and all(stride % step == 0 for stride in x.stride()[:-1]):
        return x
    return x.clone(memory_format=torch.contiguous_format)


def even_rows(gate: Tensor) -> Tensor:  # [B, N], a slice of all modulations
    """gate, or a copy of it, from a multiple of 16 bytes on and with rows an even number of elements apart."""
    gate = rows(gate)
    fits = gate.data_ptr() % 16 == 0 and gate.stride(0) % 2 == 0
    return gate if fits else gate.clone(memory_format=torch.contiguous_format)


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous tensor; torch.empty_strided takes half as long as torch.empty."""
    steps = accumulate(reversed(shape[1:]), lambda step, size: step * max(size, 1), initial=1)
    return tuple(steps)[::-1][: len(shape)]


def as_matrix(x: Tensor) -> Tensor:  # [..., C] -> [N, C]
    """A view where the leading dimensions allow one."""
    if x.ndim == 2:
        return rows(x)
    return rows(x).flatten(0, -2) if x.ndim > 2 else rows(x)[None]


def is_channels_last(x: Tensor) -> bool:  # [B, C, T, H, W]
    """True if kernels treat x as channels_last_3d; a volume that is both counts as NCDHW, one that is neither by C."""
    if x.is_contiguous():
        return False
    return x.is_contiguous(memory_format=LAST) or x.stride(1) == 1


def memory_format(x: Tensor) -> torch.memory_format:
    return LAST if is_channels_last(x) else torch.contiguous_format


def padded_shape(x: Tensor, pad: Triple) -> tuple[int, ...]:
    batch, channels, frames, height, width = x.shape
    return batch, channels, frames + pad[0], height + 2 * pad[1], width + 2 * pad[2]


def dense_last(x: Tensor) -> Tensor:
    """x, or a copy of it, stored as [B, T, H, W, C] from a multiple of 16 bytes on."""
    x = x.contiguous(memory_format=LAST)
    return x if x.data_ptr() % 16 == 0 else x.clone(memory_format=LAST)


def affine_fits(x: Tensor, *weights: Tensor | None) -> bool:
    """True if weights and biases have one dtype that kernels on x read: x's own, or float32."""
    dtypes = {weight.dtype for weight in weights if weight is not None}
    return not dtypes or (len(dtypes) == 1 and dtypes <= {x.dtype, FLOAT})


def volume_fits(x: Tensor) -> bool:  # [B, C, T, H, W]
    """True if the GroupNorm kernel takes this volume; on CUDA channels-last ones of whole 16-byte packs."""
    step = 16 // x.element_size()
    on_device = plain.device_type(x) == "cuda"
    return not on_device or (is_channels_last(x) and x.shape[1] % step == 0 and x.shape[1] <= 256 * step)


def qk_fits(q: Tensor, k: Tensor, norms: Norms, rope: Pair | None) -> bool:  # [B, S, H, D]
    """True if dtypes suit the kernels of norm and rotation: q and k alike, weights of one dtype, tables in float32.

    On CUDA a head must be 16 bytes times a power of two up to 32: 8 to 256 elements of two bytes.
    """
    lanes, rest = divmod(q.shape[-1] * q.element_size(), 16)
    return (
        q.dtype == k.dtype
        and affine_fits(q, *norms)
        and (rope is None or rope[0].dtype == rope[1].dtype == FLOAT)
        and (plain.device_type(q) != "cuda" or (rest == 0 and lanes in (1, 2, 4, 8, 16, 32)))
    )
