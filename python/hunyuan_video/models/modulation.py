"""adaLN: shift, scale and gate vectors from the condition (timestep, pooled text, guidance) of a call.

They do not depend on the latents. For a fixed schedule they are known before the first step, and one GEMM per layer
with a row per step reads each weight once instead of once per step: 27 % of the 13B model's block weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from hunyuan_video.models.fused import linear


class Modulation(nn.Module):
    """Linear(SiLU(vec)): `count` vectors side by side."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.linear = nn.Linear(width, count * width)

    def forward(self, vec: Tensor) -> Tensor:  # [..., D] -> [..., count * D]
        return linear(self.linear, F.silu(vec))


class Modulations(NamedTuple):
    """What `HunyuanVideoTransformer.modulations` computes: the vectors of every layer, for N timesteps or for one.

    Tensors are [N, B, count * D], or [B, count * D] after `step`; a forward takes the latter.
    """

    double: tuple[tuple[Tensor, Tensor], ...]  # per block, video and text: count = 6
    single: tuple[Tensor, ...]  # per block: count = 3
    final: Tensor  # count = 2

    def step(self, index: int) -> Modulations:
        """The vectors of timestep `index`, as views."""
        double = tuple((video[index], text[index]) for video, text in self.double)
        return Modulations(double, tuple(one[index] for one in self.single), self.final[index])
