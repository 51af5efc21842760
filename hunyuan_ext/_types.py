"""Type names used by several op families."""

from __future__ import annotations

from torch import Tensor

Triple = tuple[int, int, int]  # along (frames, rows, columns)
Pair = tuple[Tensor, Tensor]
Norms = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]  # RMSNorm weights of q, k, text q, text k
