"""Cheap pictures of latents: one pixel per latent position, from a linear map of the latent channels to RGB.

The map is fitted once per VAE by least squares: the VAE encodes a chart of smooth color fields, and its latents are
regressed on the chart's mean color in each latent cell. A pipeline without a VAE shows the three strongest principal
components of the latents instead, as false colors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.media.pixels import check_finite, to_bytes, to_display

if TYPE_CHECKING:
    from hunyuan_video.models import CausalVAE

CHART_CELLS = 12  # the chart is 12 x 12 latent positions
RIDGE = 1e-3


class LatentPreview:
    """Latents [N, C, T, h, w] -> uint8 frames [N, T, h, w, 3] on the CPU."""

    def __init__(self, weight: Tensor | None = None):  # [C + 1, 3] to RGB in [-1, 1], last row the bias
        self.weight = weight

    @classmethod
    def fit(cls, vae: CausalVAE) -> LatentPreview:
        """The map for one VAE: one encode of a single small image."""
        config = vae.config
        parameter = next(vae.parameters())
        size = CHART_CELLS * config.spatial_compression
        chart = color_chart(size)[:, :, None]  # [1, 3, 1, H, W]
        with torch.no_grad():
            latents = vae.encode(chart.to(parameter.device, parameter.dtype)).mode().float().cpu()
        latents = latents * config.scaling_factor
        colors = F.avg_pool2d(chart[:, :, 0], config.spatial_compression)  # [1, 3, h, w]
        inputs = _with_ones(latents[0, :, 0].flatten(1).T.double())  # [h * w, C + 1]
        gram = inputs.T @ inputs + RIDGE * torch.eye(inputs.shape[1], dtype=torch.float64, device="cpu")
        return cls(torch.linalg.solve(gram, inputs.T @ colors[0].flatten(1).T.double()).float())

    def __call__(self, latents: Tensor) -> Tensor:
        rows = latents.detach().float().cpu().permute(0, 2, 3, 4, 1)  # [N, T, h, w, C]
        rgb = _with_ones(rows) @ self.weight if self.weight is not None else _false_colors(rows)
        check_finite(rgb, "the latents of the preview")
        return to_bytes(to_display(rgb))


def color_chart(size: int) -> Tensor:
    """An image [1, 3, size, size] in [-1, 1] in which the three channels vary smoothly and independently."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 3, 5, 5), generator=generator, dtype=torch.float32, device="cpu") * 2.4 - 1.2
    return F.interpolate(coarse, (size, size), mode="bilinear", align_corners=True).clamp(-1, 1)


def _with_ones(rows: Tensor) -> Tensor:  # [..., C] -> [..., C + 1]
    return torch.cat((rows, torch.ones_like(rows[..., :1])), dim=-1)


def _false_colors(rows: Tensor) -> Tensor:  # [N, T, h, w, C] -> [N, T, h, w, 3], two standard deviations to [-1, 1]
    flat = rows.flatten(0, -2)
    centered = flat - flat.mean(0)
    _, axes = torch.linalg.eigh(centered.T @ centered)  # ascending
    strongest = axes[:, -3:].flip(-1)
    shown = centered @ (strongest * torch.where(strongest.sum(0) < 0, -1.0, 1.0))  # eigh leaves the signs open
    shown = F.pad(shown, (0, 3 - shown.shape[1])) / (2 * shown.std(0).max().clamp_min(1e-6))
    return shown.view(*rows.shape[:-1], 3)
