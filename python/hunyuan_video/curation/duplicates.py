"""Duplicates and concepts of a whole set: cosine of embeddings, k-means, weights by 1 / sqrt(cluster size)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

SAME = 0.94  # cosine from which two clips show the same
BLOCK = 2048  # clips that are compared with all others at once
CLUSTER = 32  # clips a concept has on average
MOST_CONCEPTS = 10_000  # the paper's number of centroids
ROUNDS = 25
CAP = 4.0  # of a weight over the smallest


def mark_duplicates(
    rows: Sequence[dict[str, Any]], embeddings: np.ndarray
) -> None:  # float32 [N, 1280], rows of length 1
    """Sets `duplicate_of` and `duplicate_cosine`: the clip of a group that stays is the best one (`_rank`).

    A zero embedding (a clip without a sample) is no duplicate of anything.
    """
    order = sorted(range(len(rows)), key=lambda place: _rank(rows[place]))
    kept: list[int] = []
    for row in rows:
        row["duplicate_of"], row["duplicate_cosine"] = None, None
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        earlier = embeddings[block] @ embeddings[kept].T if kept else np.zeros((len(block), 0))
        within = embeddings[block] @ embeddings[block].T
        fresh: list[int] = []
        for number, place in enumerate(block):
            candidates = [(float(earlier[number, i]), kept[i]) for i in np.flatnonzero(earlier[number] >= SAME)]
            candidates += [(float(within[number, i]), block[i]) for i in fresh if within[number, i] >= SAME]
            same_kind = [pair for pair in candidates if rows[pair[1]]["kind"] == rows[place]["kind"]]
            if same_kind:
                cosine, best = max(same_kind, key=lambda pair: pair[0])
                rows[place]["duplicate_of"], rows[place]["duplicate_cosine"] = rows[best]["clip"], min(cosine, 1.0)
            else:
                fresh.append(number)
        kept += [block[number] for number in fresh]


def _rank(row: dict[str, Any]) -> tuple[Any, ...]:
    """Ascending: the larger picture first, then the longer clip, then the source's name."""
    return (-row["crop"][2] * row["crop"][3], -round(row["seconds"], 2), row["source"], row["start_frame"], row["clip"])


def mark_concepts(rows: Sequence[dict[str, Any]], embeddings: np.ndarray) -> None:  # [N, 1280]
    """Sets `cluster` and `weight`: how often a clip shall be drawn, with a mean of 1 over clips without a duplicate."""
    chosen = [i for i, row in enumerate(rows) if row["duplicate_of"] is None and embeddings[i].any()]
    for row in rows:
        row["cluster"], row["weight"] = None, None
    if not chosen:
        return
    count = min(max(round(len(chosen) / CLUSTER), 1), MOST_CONCEPTS)
    labels = k_means(embeddings[chosen], count)
    sizes = np.bincount(labels, minlength=count)
    weights = 1 / np.sqrt(sizes[labels])
    weights = np.minimum(weights, CAP * weights.min())
    weights = weights / weights.mean()
    for i, label, weight in zip(chosen, labels, weights, strict=True):
        rows[i]["cluster"], rows[i]["weight"] = int(label), float(weight)


def k_means(points: np.ndarray, count: int, seed: int = 0) -> np.ndarray:  # [N, D] of length 1 -> int [N]
    """Clusters by cosine (spherical k-means, k-means++ starts); the same for the same points."""
    rng = np.random.default_rng(seed)
    centers = points[[int(rng.integers(len(points)))]]
    nearest = np.clip(1 - points @ centers[0], 0, None)
    while len(centers) < count:
        chances = nearest / nearest.sum() if nearest.sum() > 0 else np.full(len(points), 1 / len(points))
        center = points[int(rng.choice(len(points), p=chances))]
        centers = np.vstack([centers, center])
        nearest = np.minimum(nearest, np.clip(1 - points @ center, 0, None))
    labels = np.full(len(points), -1)
    for _ in range(ROUNDS):
        before, labels = labels, (points @ centers.T).argmax(1)
        if (before == labels).all():
            break
        for label in np.unique(labels):
            total = points[labels == label].sum(0)
            centers[label] = total / max(np.linalg.norm(total), 1e-9)
    return labels
