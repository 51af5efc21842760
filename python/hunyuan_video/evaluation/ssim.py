"""Structural similarity (Wang et al. 2004), the usual 11 x 11 Gaussian window of width 1.5."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def ssim(a: Tensor, b: Tensor) -> Tensor:  # uint8 [N, F, H, W, 3] each -> [N]
    """Mean over frames, channels and pixels whose window lies inside; 1 for equal clips.

    Raises ValueError below 11 x 11 pixels or for unequal shapes.
    """
    if a.shape != b.shape or min(a.shape[2:4]) < 11:
        raise ValueError(f"ssim needs equal clips of at least 11 x 11 pixels, got {list(a.shape)} and {list(b.shape)}")
    return (
        torch.stack([_frames_ssim(x, y).mean() for x, y in zip(a.flatten(0, 1), b.flatten(0, 1), strict=True)])
        .view(a.shape[:2])
        .mean(1)
    )  # frame by frame: all at once would take sixty times the memory of the clips


def _frames_ssim(a: Tensor, b: Tensor) -> Tensor:  # uint8 [H, W, 3] each -> [3, 1, H - 10, W - 10]
    x, y = (v.float().permute(2, 0, 1)[:, None] for v in (a, b))
    place = torch.arange(11.0, dtype=torch.float32, device="cpu") - 5
    line = torch.exp(-place.square() / (2 * 1.5**2))
    line = line / line.sum()

    def blur(v: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(v, line.view(1, 1, 11, 1)), line.view(1, 1, 1, 11))

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
