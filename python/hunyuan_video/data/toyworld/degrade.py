"""Degradation of clips, roughly that of a video autoencoder: blur and noise. The analyser is tested on such clips."""

import torch
import torch.nn.functional as F
from torch import Tensor


def degrade(
    clips: Tensor,  # uint8 [N, F, H, W, 3]
    blur: float,
    noise: float,
    seed: int = 0,
) -> Tensor:
    """Gaussian blur (standard deviation in pixels) and Gaussian noise (of the range 0..1). uint8 [N, F, H, W, 3]"""
    generator = torch.Generator().manual_seed(seed)
    pictures = clips.flatten(0, 1).permute(0, 3, 1, 2).float()
    if blur > 0.0:
        reach = max(1, round(3.0 * blur))
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float32, device="cpu") / blur).square())
        kernel = (kernel / kernel.sum()).repeat(3, 1, 1)
        pictures = F.pad(pictures, (reach, reach, reach, reach), mode="replicate")
        pictures = F.conv2d(F.conv2d(pictures, kernel[:, :, None], groups=3), kernel[..., None], groups=3)
    pictures = pictures + 255.0 * noise * torch.randn(
        pictures.shape, generator=generator, dtype=torch.float32, device="cpu"
    )
    return (pictures + 0.5).clamp(0.0, 255.0).to(torch.uint8).permute(0, 2, 3, 1).unflatten(0, clips.shape[:2])
