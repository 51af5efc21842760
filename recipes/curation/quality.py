"""Trains the quality heads of curation: python -m recipes.curation.quality, from the root of the repository.

Pictures and clips of installed packages are degraded in known ways (degradations.py); of two versions of one picture,
the less degraded one shall score higher, and across pictures a clean one shall stand above 0.5. Pictures of the test
never train. Prints the share of test pairs in the right order by kind, and writes the weights (40 KB).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

from benchmarks.curation import media
from hunyuan_video.curation.stages.embedding import Embedder
from hunyuan_video.curation.stages.quality import HEADS, QualityHeads
from hunyuan_video.media.images import read_image
from hunyuan_video.media.stream import resized
from recipes.curation.degradations import AESTHETIC, TECHNICAL

TEST = ("chelsea", "coffee", "lion", "phone", "earth")  # never trained on
IMAGES = "cheetah.jpg lion.jpg tower.jpg bus.png groot.jpeg avatar.png"
STRENGTHS = (0.2, 0.8)
LONGEST = (1000, 420)


def pictures() -> Iterator[tuple[str, np.ndarray]]:
    """(name, uint8 [H, W, 3]) of everything that is clean."""
    yield from media.photos()
    for name in IMAGES.split():
        if path := media.package_file("gradio", f"media_assets/images/{name}"):
            yield Path(name).stem, np.asarray(read_image(path))
    for name, count in (("bunny", 3), ("bikes", 6), ("phone", 2), ("earth", 1)):
        if media.video(name):
            clip = media.frames(name, 1280)
            for place in np.linspace(0, len(clip) - 1, count).astype(int):
                yield name, clip[place]


def views(picture: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """A picture at up to two sizes, mirrored by chance."""
    height, width = picture.shape[:2]
    sizes = [longest for longest in LONGEST if longest <= max(height, width)] or [max(height, width)]
    for longest in sizes:
        scale = longest / max(height, width)
        view = resized(picture, (round(height * scale), round(width * scale)))
        top, left = (int(rng.integers(side // 10 + 1)) for side in view.shape[:2])
        view = view[top : top + view.shape[0] * 9 // 10, left : left + view.shape[1] * 9 // 10]
        yield np.ascontiguousarray(view[:, ::-1] if rng.random() < 0.5 else view)


def examples() -> dict[str, list[tuple[str, int, str, float, np.ndarray]]]:
    """Branch -> (picture's name, number of the view, kind, strength, features); strength 0 is clean."""
    rng = np.random.default_rng(5)
    embedder, heads = Embedder(), QualityHeads()
    out: dict[str, list[tuple[str, int, str, float, np.ndarray]]] = {"aesthetic": [], "technical": []}
    group = 0

    def seen_small(view: np.ndarray) -> np.ndarray:
        return embedder.see(view)[0]

    for name, picture in pictures():
        for view in views(picture, rng):
            group += 1
            for branch, kinds, see in (
                ("aesthetic", AESTHETIC, seen_small), ("technical", TECHNICAL, heads.technical_features),
            ):  # fmt: skip
                out[branch].append((name, group, "clean", 0.0, see(view)))
                for kind, degrade in kinds.items():
                    for strength in STRENGTHS:
                        out[branch].append((name, group, kind, strength, see(degrade(view, strength, rng))))
        print(name, flush=True)
    return out


def train(
    rows: list[tuple[str, int, str, float, np.ndarray]], decay: float
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """(a head, share of test pairs in the right order by kind)."""
    features = np.stack([row[4] for row in rows])
    fitting = np.array([row[0] not in TEST for row in rows])
    mean, spread = features[fitting].mean(0), features[fitting].std(0) + 1e-3
    values = torch.from_numpy((features - mean) / spread).float()
    strength = np.array([row[3] for row in rows])
    better, worse, test = [], [], []
    groups: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row[1], []).append(index)
    for members in groups.values():
        for i in members:
            for j in members:
                same = rows[i][2] in ("clean", rows[j][2])
                if same and strength[i] < strength[j]:
                    if fitting[i]:
                        better.append(i)
                        worse.append(j)
                    else:
                        test.append((i, j))
    weight = torch.zeros(features.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    clean = torch.from_numpy((strength == 0).astype(np.float32))
    chosen = torch.from_numpy(fitting)
    balance = torch.where(clean > 0, float((clean == 0).sum() / clean.sum()), 1.0)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        scores = values @ weight + bias
        ranking = F.softplus(-(scores[better] - scores[worse])).mean()
        level = F.binary_cross_entropy_with_logits(scores[chosen], clean[chosen], weight=balance[chosen]) / 2
        total = ranking + 0.5 * level + decay * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    scores = (values @ weight + bias).detach().numpy()
    hits: dict[str, list[bool]] = {}
    for i, j in test:
        hits.setdefault(rows[j][2], []).append(bool(scores[i] > scores[j]))
    rates = {kind: round(float(np.mean(values)), 4) for kind, values in sorted(hits.items())}
    rates["all"] = round(float(np.mean([hit for values in hits.values() for hit in values])), 4)
    clean_test = np.array([row[3] == 0 and row[0] in TEST for row in rows])
    rates["clean of the test above 0.5"] = round(float((scores[clean_test] > 0).mean()), 4)
    head = {"weight": weight.detach().numpy(), "bias": bias.detach().numpy(), "mean": mean, "spread": spread}
    return head, rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=HEADS)
    parser.add_argument("--decay", type=float, default=2e-3)
    args = parser.parse_args()
    tensors: dict[str, np.ndarray] = {}
    for branch, rows in examples().items():
        head, rates = train(rows, args.decay)
        tensors.update({f"{branch}.{name}": value.astype(np.float32) for name, value in head.items()})
        print(branch, json.dumps(rates), flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, args.output)


if __name__ == "__main__":
    main()
