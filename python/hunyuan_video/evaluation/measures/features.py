"""Metrics over EfficientNet-Lite0's features: consistency of a clip, quality heads, distances between two sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hunyuan_video.curation.packages import cv2
from hunyuan_video.curation.stages.embedding import Embedder, mean_embedding
from hunyuan_video.curation.stages.quality import QualityHeads
from hunyuan_video.curation.stages.sharpness import sharpness
from hunyuan_video.errors import ArgumentError

QUALITY_LOOKS = 3  # frames of a clip that the quality heads and sharpness see
# Frames of a clip whose mean is its point among clips: frames of one clip are no samples of their own.
DISTANCE_LOOKS = 4


@dataclass
class Looker:
    """The networks, loaded once for all clips."""

    embedder: Embedder
    heads: QualityHeads

    @classmethod
    def new(cls) -> Looker:
        return cls(Embedder(), QualityHeads())

    def embeddings(self, frames: np.ndarray) -> np.ndarray:  # uint8 [F, H, W, 3] -> float32 [F, 1280]
        return np.stack([self.embedder.see(frame)[1] for frame in frames])

    def quality(self, frames: np.ndarray) -> dict[str, float]:  # uint8 [F, H, W, 3]
        """Means over a few frames: sharpness, aesthetic and technical quality, each 0..1."""
        rows = []
        for frame in spread(frames, QUALITY_LOOKS):
            statistics, _ = self.embedder.see(frame)
            gray = cv2().cvtColor(np.ascontiguousarray(frame), cv2().COLOR_RGB2GRAY)
            rows.append((sharpness(gray), *self.heads.see(frame, statistics)))
        return dict(zip(("sharpness", "aesthetic", "technical"), np.mean(rows, axis=0).tolist(), strict=True))


def spread(frames: np.ndarray, count: int) -> np.ndarray:  # uint8 [F, H, W, 3] -> [at most count, H, W, 3]
    """Frames at even distances, the first and the last among them."""
    return frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)]


def consistency(embeddings: np.ndarray) -> float:  # float32 [F, C] -> 0..1
    """Mean over frames from the second on of the cosines to the one before and to the first, each at least 0 (VBench).

    NaN for one frame.
    """
    if len(embeddings) < 2:
        return float("nan")
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)
    before = np.clip((unit[1:] * unit[:-1]).sum(1), 0, None)
    first = np.clip(unit[1:] @ unit[0], 0, None)
    return float(((before + first) / 2).mean())


def clip_point(embeddings: np.ndarray) -> np.ndarray:  # [F, C] -> [C]
    """The place of a clip among clips: the direction of its frames, scaled as their mean length."""
    return mean_embedding(list(embeddings)) * np.linalg.norm(embeddings, axis=1).mean()


def frechet(first: np.ndarray, second: np.ndarray) -> float:  # float [N, C] each
    """Frechet distance of the normal distributions that have the means and covariances of two sets (Heusel 2017).

    tr(sqrt(S1 S2)) is the sum of the singular values of A B^T / (N - 1), A and B the centered sets: exact, and in the
    size of the sets instead of the features. ArgumentError for sets of other sizes, which bias it, or of fewer than 2.
    """
    if first.shape != second.shape or len(first) < 2:
        raise ArgumentError(f"a Frechet distance needs two sets of one size, got {len(first)} and {len(second)}")
    a, b = (np.asarray(each, np.float64) for each in (first, second))
    means = a.mean(0) - b.mean(0)
    a, b = a - a.mean(0), b - b.mean(0)
    scale = len(a) - 1
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum() / scale
    return float(means @ means + (np.square(a).sum() + np.square(b).sum()) / scale - 2 * cross)


def kid(first: np.ndarray, second: np.ndarray) -> float:  # float [N, C], [M, C]
    """Kernel distance (Binkowski 2018): the unbiased squared MMD with the kernel (x y / C + 1)^3; may be below 0."""
    if min(len(first), len(second)) < 2:
        raise ArgumentError(f"KID needs two sets of at least 2, got {len(first)} and {len(second)}")
    a, b = (np.asarray(each, np.float64) for each in (first, second))

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2 * float(kernel(a, b).mean())


def distances(made: np.ndarray, real: np.ndarray) -> dict[str, float | int]:  # float [N, C], [M, C]
    """Frechet distance and KID of a set from real clips, and of the real ones' halves from each other, at one size.

    The size is that of the smaller of the set and half the real ones. ArgumentError where that is below 2.
    """
    count = min(len(made), len(real) // 2)
    if count < 2:
        raise ArgumentError(
            f"a distance needs 2 videos and 4 real ones at least, got {len(made)} and {len(real)}: "
            "the real ones' halves are compared with each other, too"
        )
    made, half, other = made[:count], real[0::2][:count], real[1::2][:count]
    return {
        "count": count,
        "frechet": frechet(made, half),
        "frechet_real_against_real": frechet(half, other),
        "kid": kid(made, half),
        "kid_real_against_real": kid(half, other),
    }
