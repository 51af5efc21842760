"""Gradient descent of the text models: AdamW, clipped gradients, warm-up and cosine."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Descent:
    """losses: that of every step so far."""

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float, steps: int):
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.schedule = warmup_cosine(self.optimizer, steps)
        self.losses: list[float] = []

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.losses.append(loss.item())


def warmup_cosine(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.SequentialLR:
    """Linear warm-up over a twentieth of the steps, then a cosine to a twentieth of the learning rate."""
    warmup = max(1, steps // 20)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.05, total_iters=warmup)
    low = optimizer.param_groups[0]["lr"] / 20
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - warmup), eta_min=low)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[warmup])
