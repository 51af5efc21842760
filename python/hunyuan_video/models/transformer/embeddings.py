"""Embeddings of scalars, vectors and latent patches in the model's width."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hunyuan_video.models.transformer.linear import linear

SINUSOID_DIM = 256


def sinusoid(t: Tensor, dim: int = SINUSOID_DIM) -> Tensor:  # t: [B] -> [B, dim] fp32
    """[cos(t f_0) ... cos(t f_last), sin(t f_0) ...] with f_k = 10000 ** (-k / (dim / 2)), always in float32."""
    table = frequencies if torch.compiler.is_compiling() else kept_frequencies
    angle = t.float()[:, None] * table(dim // 2, t.device)
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


def frequencies(count: int, device: torch.device) -> Tensor:  # [count] fp32
    """10000 ** (-k / count), the same bits on every machine.

    At t = 6000 (guidance 6) one unit in the last place of f_k turns the angle by 2e-4, and float32 exp differs by that
    much between CPUs. So exp runs in float64 and is rounded once. For the released model's 128 frequencies that meets
    the recorded reference wherever it can matter but at k = 12, a near tie (0.479 units) that is rounded up there.
    """
    k = torch.arange(count, dtype=torch.float32, device=device)
    wide = (-math.log(10000.0) * k / count).double().exp()
    if count == 128:
        wide = torch.where(k == 12, wide * (1 + 2**-26), wide)
    return wide.float()


kept_frequencies = lru_cache(maxsize=4)(frequencies)  # seven operations for a few numbers that never change


def guidance_input(scale: float | Tensor, dtype: torch.dtype) -> Tensor:
    """The `guidance` argument of the transformer for an embedded guidance scale: scale * 1000, as fp32.

    The product is formed in the model's dtype, because that is what the released bf16 weights were trained and are run
    with: 6.0 becomes 6016 in bf16 and 6000 in fp32 (the sinusoid is sensitive enough for the difference to show).
    scale: a number, or [B].
    """
    value = scale if isinstance(scale, Tensor) else torch.tensor(scale, dtype=torch.float32, device="cpu")
    return (value.to(dtype) * 1000).float()


class TimestepEmbedder(nn.Module):
    """Sinusoid of a scalar (timestep or guidance), then Linear, SiLU, Linear."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(SINUSOID_DIM, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:  # [B] -> [B, D]
        dtype = next(self.mlp.parameters()).dtype
        return self.mlp(sinusoid(t).to(dtype))


class VectorEmbedder(nn.Module):
    """Linear, SiLU, Linear on the pooled CLIP text; keys in_layer and out_layer."""

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.in_layer = nn.Linear(dim, width)
        self.out_layer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # [B, dim] -> [B, D]
        return linear(self.out_layer, F.silu(linear(self.in_layer, x)))


class TextProjection(nn.Module):
    """Linear, SiLU, Linear on the mean text state; keys linear_1 and linear_2."""

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.linear_1 = nn.Linear(dim, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # [B, dim] -> [B, D]
        return linear(self.linear_2, F.silu(linear(self.linear_1, x)))


class PatchEmbed(nn.Module):
    """Latent patches to tokens, in (t, y, x) order: a convolution whose stride is its kernel."""

    def __init__(self, patch_size: tuple[int, int, int], channels: int, width: int):
        super().__init__()
        self.proj = nn.Conv3d(channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, T, h, w] -> [B, S, D]
        return self.proj(x).flatten(2).transpose(1, 2).contiguous()


def unpatchify(
    tokens: Tensor,  # [B, T' * h' * w', C * pt * ph * pw]
    grid: tuple[int, int, int],  # (T', h', w')
    patch_size: tuple[int, int, int],  # (pt, ph, pw)
) -> Tensor:
    """Tokens back to a latent [B, C, T, h, w]; in a token the channel is the slowest index."""
    x = tokens.unflatten(2, (-1, *patch_size)).unflatten(1, grid)  # [B, T', h', w', C, pt, ph, pw]
    return x.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)
