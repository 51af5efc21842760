"""The learning rate over a run."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hunyuan_video.training.config import OptimizerConfig


def learning_rate_factor(step: int, done: float, config: OptimizerConfig) -> float:
    """Linear warm-up, constant, linear decay to zero over the last `config.decay` of the run. done: how much of the run
    is over, 0..1."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return min(warm, (1.0 - done) / max(config.decay, 1e-9), 1.0)


class LearningRate:
    """Sets the rates of all groups of some optimizers; a function of step and pace, so it has no state to save."""

    def __init__(self, optimizers: list[torch.optim.Optimizer], config: OptimizerConfig, pace: Callable[[int], float]):
        self.groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self.base = [group["lr"] for group in self.groups]
        self.config, self.pace = config, pace
        self.factor = 0.0  # on the configured rates, of the last step

    def set(self, step: int) -> None:
        self.factor = learning_rate_factor(step, self.pace(step), self.config)
        for group, rate in zip(self.groups, self.base, strict=True):
            group["lr"] = rate * self.factor
