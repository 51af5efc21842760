"""Closed-form latents that break the VAE's plateau.

A causal VAE trained from nothing sits at the mean color for a long time. Blocks of pixels (8x8 for the first frame,
4x8x8 after it, for a VAE that compresses 4x8x8) have an optimal linear code: their principal
components. The encoder is first taught to produce that code and the decoder to invert it; then both train jointly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_video.models.grid import Grid


def blocks_of(video: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """[B, C, F, H, W] with F = t*k+1 -> (first [B, 1, h, w, C*s*s], rest [B, k, h, w, C*t*s*s])."""
    t, s = grid.temporal, grid.spatial
    b, c, f, height, width = video.shape
    _, frames, h, w = grid.latent_shape(f, height, width)
    k = frames - 1
    first = video[:, :, :1].reshape(b, c, 1, h, s, w, s).permute(0, 2, 3, 5, 1, 4, 6).reshape(b, 1, h, w, -1)
    rest = video[:, :, 1:].reshape(b, c, k, t, h, s, w, s).permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, k, h, w, -1)
    return first, rest


def principal(centered: Tensor, count: int) -> tuple[Tensor, Tensor]:  # [N, P] -> [count], [P, count]
    """The largest variances of N centered rows, in falling order, and their directions.

    Of fewer rows than columns by a singular value decomposition: the covariance of 8x16x16 blocks is 6144 x 6144.
    """
    if count <= len(centered) < centered.shape[1]:
        _, values, directions = torch.linalg.svd(centered, full_matrices=False)
        return values[:count].square() / len(centered), directions[:count].T
    values, vectors = torch.linalg.eigh(centered.T @ centered / len(centered))
    return values.flip(0)[:count], vectors.flip(1)[:, :count]


class PCALatents:
    """Linear latents of a set of clips: `encode` gives [B, channels, k+1, h, w]."""

    def __init__(self, grid: Grid, first: tuple[Tensor, Tensor, Tensor], rest: tuple[Tensor, Tensor, Tensor]):
        self.grid = grid
        self.first, self.rest = first, rest  # each (mean [P], basis [P, channels], gain [channels])

    @classmethod
    def fit(cls, video: Tensor, grid: Grid, whiten: float) -> PCALatents:  # video: [B, 3, F, H, W] in [-1, 1]
        """whiten: coefficients are divided by their standard deviation to this power, then by one common number so
        that the latents have unit variance overall."""
        channels, parts = grid.latent_channels, []
        for blocks in blocks_of(video, grid):
            flat = blocks.reshape(-1, blocks.shape[-1]).double()
            mean = flat.mean(0)
            variance, basis = principal(flat - mean, channels)
            deviation = variance.clamp(min=1e-12).sqrt()
            gain = deviation**-whiten
            gain = gain / ((deviation * gain).square().mean().sqrt())
            parts.append((mean.float(), basis.float(), gain.float()))
        return cls(grid, *parts)

    def encode(self, video: Tensor) -> Tensor:
        codes = []
        for blocks, (mean, basis, gain) in zip(blocks_of(video, self.grid), (self.first, self.rest), strict=True):
            codes.append(((blocks - mean) @ basis) * gain)
        return torch.cat(codes, dim=1).permute(0, 4, 1, 2, 3).contiguous()

    def decode(self, latents: Tensor) -> Tensor:
        """The linear reconstruction, [B, 3, F, H, W]: what the network has to beat."""
        t, s = self.grid.temporal, self.grid.spatial
        codes = latents.permute(0, 2, 3, 4, 1)
        pixels = [
            (code / gain) @ basis.T + mean
            for code, (mean, basis, gain) in zip((codes[:, :1], codes[:, 1:]), (self.first, self.rest), strict=True)
        ]
        b, k, h, w, _ = pixels[1].shape
        first = pixels[0].reshape(b, 1, h, w, 3, s, s).permute(0, 4, 1, 2, 5, 3, 6).reshape(b, 3, 1, h * s, w * s)
        rest = pixels[1].reshape(b, k, h, w, 3, t, s, s).permute(0, 4, 1, 5, 2, 6, 3, 7)
        return torch.cat((first, rest.reshape(b, 3, k * t, h * s, w * s)), dim=2)
