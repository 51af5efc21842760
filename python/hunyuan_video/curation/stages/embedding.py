"""Embedding of pictures: EfficientNet-Lite0's 1280 pooled features, ImageNet weights from a pip package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from hunyuan_video.models.features import EfficientNetFeatures

SIDE = 224
WIDTH = 1280


class Embedder:
    """Features of pictures; the network is loaded with the first one."""

    def __init__(self) -> None:
        self._network: EfficientNetFeatures | None = None

    def see(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # uint8 [H, W, 3] -> float32 [C], [1280]
        """(statistics of the layers, for the aesthetic head; the embedding)."""
        if self._network is None:
            self._network = EfficientNetFeatures()
        pixels = torch.from_numpy(np.require(picture, requirements=("C", "W"))).permute(2, 0, 1)[None].float()
        pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True) / 127.5 - 1
        with torch.inference_mode():
            statistics, pooled = self._network.described(pixels)
        return statistics[0].numpy(), pooled[0].numpy()


def mean_embedding(samples: Sequence[np.ndarray]) -> np.ndarray:  # float32 [1280], of length 1
    """The direction of a clip: the mean of its pictures' directions."""
    total = np.sum([sample / max(np.linalg.norm(sample), 1e-9) for sample in samples], axis=0)
    return (total / max(np.linalg.norm(total), 1e-9)).astype(np.float32)
