"""3D rotary position embedding: one table per token grid (paper section 4.2, "3D RoPE")."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

ONE_PERIOD = 0.9 * 2 * math.pi  # a clip stays a tenth short of a period, so that its end is not its beginning


def rope_table(
    grid: tuple[int, int, int],
    *,
    dims: tuple[int, int, int] = (16, 56, 56),
    theta: float = 256.0,
    lowered: int = 0,
) -> tuple[Tensor, Tensor]:
    """cos and sin of every token's angles, each [T * h * w, sum(dims)] fp32 on the CPU.

    grid: tokens along (t, y, x); the row of token (t, y, x) is (t * h + y) * w + x. dims: head dimensions of each axis,
    even. Axis with n dimensions: angle = position * theta ** (-2j / n), j = 0 .. n/2 - 1, every column twice in a row
    (the op rotates interleaved pairs). Always computed on the CPU, so that every device gets the same bits.
    lowered: number of the frequency in time, from 1, that becomes 0.9 * 2 pi / T, for clips longer than its period
    (RIFLEx, arXiv 2502.15894); 0: none. Raises ValueError on an odd dimension, an empty grid or no such frequency.
    """
    if len(grid) != 3 or len(dims) != 3:
        raise ValueError(f"grid and dims have 3 entries (t, y, x), got {tuple(grid)} and {tuple(dims)}")
    if any(dim < 0 or dim % 2 for dim in dims):
        raise ValueError(f"dims turn in pairs and must be even, got {tuple(dims)}")
    if any(size < 1 for size in grid):
        raise ValueError(f"grid sizes must be positive, got {tuple(grid)}")
    angles = []
    for axis, (size, dim) in enumerate(zip(grid, dims, strict=True)):
        shape = [1, 1, 1, dim // 2]
        shape[axis] = size
        angle = _axis_angles(size, dim, theta, lowered if axis == 0 else 0).view(shape)
        angles.append(angle.expand(*grid, dim // 2))
    angle = torch.cat(angles, dim=-1).flatten(0, 2)
    return angle.cos().repeat_interleave(2, dim=1), angle.sin().repeat_interleave(2, dim=1)


def longest_unrepeated(dim: int, theta: float, number: int) -> int:
    """Positions that a frequency of an axis (from 1) tells apart within nine tenths of its period."""
    return int(ONE_PERIOD * theta ** (2 * (number - 1) / dim))


def _axis_angles(size: int, dim: int, theta: float, lowered: int = 0) -> Tensor:  # [size, dim / 2] fp32
    frequency = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32, device="cpu") / max(dim, 1))
    if lowered:
        if not 1 <= lowered <= dim // 2:
            raise ValueError(f"lowered: frequencies in time are numbered 1 to {dim // 2}, got {lowered}")
        frequency[lowered - 1] = frequency[lowered - 1].clamp(max=ONE_PERIOD / size)
    return torch.outer(torch.arange(size, dtype=torch.float32, device="cpu"), frequency)


@lru_cache(maxsize=4)  # a 720p x 129 frames table is 2 x 61 MB; buckets of a training run reuse theirs
def cached_rope_table(
    grid: tuple[int, int, int], dims: tuple[int, int, int], theta: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """`rope_table` on a device, kept for the next call. Treat the tensors as read-only."""
    cos, sin = rope_table(grid, dims=dims, theta=theta)
    return cos.to(device), sin.to(device)
