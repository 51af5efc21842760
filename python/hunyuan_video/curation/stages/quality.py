"""Aesthetic and technical quality: two linear heads over EfficientNet features, trained to rank (recipes/curation).

As DOVER has two branches: the aesthetic one sees the whole picture made small, the technical one pieces of it at their
own size, where blocks, noise and blur can be seen.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from hunyuan_video.models.features import EfficientNetFeatures

HEADS = Path(__file__).resolve().parents[2] / "assets" / "curation" / "quality.safetensors"
PIECES, PIECE = 4, 56  # a side; pixels a side: 4 x 4 pieces make a picture of 224 x 224


class QualityHeads:
    """Scores of pictures, 0..1: 0.5 is the middle of what the heads were trained on."""

    def __init__(self) -> None:
        self._network: EfficientNetFeatures | None = None

    def see(self, picture: np.ndarray, statistics: np.ndarray) -> tuple[float, float]:  # uint8 [H, W, 3], [C]
        """(aesthetic, technical) of a picture; statistics: of the `Embedder`."""
        heads = _heads()
        return score(statistics, heads, "aesthetic"), score(self.technical_features(picture), heads, "technical")

    def technical_features(self, picture: np.ndarray) -> np.ndarray:  # uint8 [H, W, 3] -> float32 [F]
        """Means over the pieces of what early and late layers see of them."""
        if self._network is None:
            self._network = EfficientNetFeatures()
        pixels = torch.from_numpy(fragments(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            return self._network.described(pixels)[0][0].numpy()


def fragments(picture: np.ndarray) -> np.ndarray:  # uint8 [H, W, 3] -> uint8 [224, 224, 3]
    """Pieces of a picture at their own size, from a grid over it; small pictures repeat their border."""
    height, width = picture.shape[:2]
    below, beside = max(PIECE - height, 0), max(PIECE - width, 0)
    if below or beside:
        picture = np.pad(picture, ((0, below), (0, beside), (0, 0)), mode="edge")
        height, width = picture.shape[:2]
    tops = np.linspace(0, height - PIECE, PIECES).round().astype(int)
    lefts = np.linspace(0, width - PIECE, PIECES).round().astype(int)
    rows = [np.concatenate([picture[y : y + PIECE, x : x + PIECE] for x in lefts], 1) for y in tops]
    return np.ascontiguousarray(np.concatenate(rows, 0))


def score(features: np.ndarray, heads: dict[str, np.ndarray], name: str) -> float:
    """A head's score of some features, through the logistic function."""
    values = (features - heads[f"{name}.mean"]) / heads[f"{name}.spread"]
    return float(1 / (1 + np.exp(-float(values @ heads[f"{name}.weight"] + heads[f"{name}.bias"][0]))))


@lru_cache(maxsize=1)
def _heads() -> dict[str, np.ndarray]:
    return load_file(HEADS)
