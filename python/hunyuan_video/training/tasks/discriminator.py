"""A 3D PatchGAN and its hinge losses (paper section 4.1.1: 0.05 adversarial; architecture unpublished).

PatchGAN as in arXiv 1611.07004, with 3D convolutions: each output judges a patch of space and time.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """[B, 3, F, H, W] in [-1, 1] -> logits of patches [B, 1, f, h, w]; any F >= 1, H and W >= 8.

    width: channels of the first layer, doubled up to 8-fold; layers: halvings of height and width, every second one
    of time too. GroupNorm, not BatchNorm: a step has few clips, and real and fake are judged apart.
    """

    def __init__(self, width: int = 32, layers: int = 3):
        super().__init__()
        channels = [min(width * 2**i, width * 8) for i in range(layers + 1)]
        blocks: list[nn.Module] = [nn.Conv3d(3, channels[0], (3, 4, 4), (1, 2, 2), (0, 1, 1)), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            stride = (2 if i % 2 else 1, *((2, 2) if i < layers else (1, 1)))
            blocks += [
                nn.Conv3d(channels[i - 1], channels[i], (3, 3, 3), stride, 1),
                nn.GroupNorm(min(8, channels[i]), channels[i]),
                nn.LeakyReLU(0.2),
            ]
        self.blocks = nn.Sequential(*blocks, nn.Conv3d(channels[-1], 1, 3, padding=1))

    def forward(self, video: Tensor) -> Tensor:
        # The first convolution's padding in time. Given as its own, torch (2.11, 2.13, on CPUs with AMX) computes
        # nonsense, often NaN, from one frame of three channels in bfloat16.
        return self.blocks(F.pad(video, (0, 0, 0, 0, 1, 1)))


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge: real logits above 1, fake ones below -1."""
    return 0.5 * (F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean())


def generator_loss(fake: Tensor) -> Tensor:
    """Minus the mean logit."""
    return -fake.float().mean()
