"""Type names used by several op families."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FLOAT, BFLOAT, HALF, E4M3 = torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn
SCALE_BLOCK = 128  # columns (and rows of a weight) that share an FP8 scale

Triple = tuple[int, int, int]  # along (frames, rows, columns)
Pair = tuple[Tensor, Tensor]
Norms = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]  # RMSNorm weights of q, k, text q, text k
Gradients = tuple[Tensor | None, ...]  # one of each input of an op


class Fp8Rows(NamedTuple):
    """Rows in float8_e4m3fn: x[..., k] ~ codes[..., k] * scale of its row, or of its row and block of 128 columns."""

    codes: Tensor  # [..., K] float8_e4m3fn, contiguous; M rows
    scale: Tensor  # fp32: [M], or [ceil(K / 128), M]

    def decoded(self, dtype: torch.dtype) -> Tensor:  # [..., K]
        """Values that the codes and scales stand for."""
        columns = self.codes.shape[-1]
        by_row = self.scale.ndim == 1
        spread = self.scale[:, None] if by_row else self.scale.repeat_interleave(SCALE_BLOCK, 0)[:columns].T
        wide = self.codes.reshape(-1, columns).to(spread.dtype) * spread
        return wide.to(dtype).reshape(self.codes.shape)


def widen(x: Tensor) -> Tensor:
    """x in float32, or as it is in float64: the arithmetic of gradient formulas."""
    return x if x.dtype == torch.float64 else x.float()
