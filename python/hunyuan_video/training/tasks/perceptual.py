"""Perceptual losses for the VAE (paper section 4.1.1: 0.1 LPIPS), by name or as "module:factory".

The default works offline: features of an ImageNet EfficientNet-Lite0, whose weights are a pip package. As in LPIPS
(arXiv 1801.03924) the features of each tap are scaled to unit length along the channels before they are compared;
there are no learned channel weights, every tap counts the same.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hunyuan_video.errors import UserError
from hunyuan_video.models.features import EfficientNetFeatures


class EfficientNetPerceptual(EfficientNetFeatures):
    """Mean squared distance of unit-length features; frozen."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:  # [N, 3, H, W] in [-1, 1] each -> []
        both = self.features(torch.cat((a, b)))
        return torch.stack([(u - v).square().sum(1).mean() for u, v in (tap.chunk(2) for tap in both)]).mean()


PERCEPTUAL: dict[str, Callable[[], nn.Module]] = {"efficientnet_lite0": EfficientNetPerceptual}


def perceptual_loss(name: str) -> nn.Module:
    """A frozen module of two batches of frames, [N, 3, H, W] in [-1, 1], that returns their distance.

    name: a key of PERCEPTUAL, or "module:factory" of your own. Raises UserError.
    """
    if name in PERCEPTUAL:
        return PERCEPTUAL[name]()
    module, colon, factory = name.partition(":")
    try:
        if not colon:
            raise ImportError
        return getattr(importlib.import_module(module), factory)().requires_grad_(False)
    except (ImportError, AttributeError):
        raise UserError(
            f"perceptual {name!r}: known are {', '.join(PERCEPTUAL)}; or write module:factory of an importable one"
        ) from None
