"""Linear classifiers of the attributes of a scene: auxiliary losses in training, probes in evaluation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hunyuan_video.training.text.captions import NOT_MENTIONED


class AttributeHeads(nn.Module):
    """One linear classifier per attribute."""

    def __init__(self, width: int, sizes: dict[str, int]):
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, count) for name, count in sizes.items()})

    def loss(self, features: Tensor, labels: dict[str, Tensor]) -> Tensor:  # [B, width], each [B] -> scalar
        """Mean cross-entropy over the attributes that are said at least once in the batch."""
        mentioned = [name for name in self.heads if bool((labels[name] != NOT_MENTIONED).any())]
        losses = [F.cross_entropy(self.heads[name](features).float(), labels[name]) for name in mentioned]
        return torch.stack(losses).mean() if losses else features.sum() * 0

    @torch.no_grad()
    def accuracy(self, features: Tensor, labels: dict[str, Tensor]) -> dict[str, float]:
        """Share of right answers per attribute, over the texts that mention it."""
        result = {}
        for name, head in self.heads.items():
            mentioned = labels[name] != NOT_MENTIONED
            right = head(features[mentioned]).argmax(dim=1) == labels[name][mentioned]
            result[name] = round(right.float().mean().item(), 4)
        return result


def probe(
    train: tuple[Tensor, dict[str, Tensor]],  # features [N, width], labels each [N]
    test: tuple[Tensor, dict[str, Tensor]],
    sizes: dict[str, int],
    *,
    steps: int = 300,
    seed: int = 0,
) -> dict[str, float]:
    """Accuracy per attribute on `test` of linear classifiers fitted to `train`, on standardized features."""
    torch.manual_seed(seed)
    mean, deviation = train[0].mean(dim=0), train[0].std(dim=0).clamp_min(1e-6)
    heads = AttributeHeads(train[0].shape[1], sizes)
    optimizer = torch.optim.AdamW(heads.parameters(), lr=0.03, weight_decay=1e-3)
    for _ in range(steps):
        loss = heads.loss((train[0] - mean) / deviation, train[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return heads.accuracy((test[0] - mean) / deviation, test[1])
