"""The learning rate over a run."""

from __future__ import annotations

import torch

from hunyuan_video.training.config import OptimizerConfig


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Linear warm-up, constant, linear decay to zero over the last `config.decay` of the run."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    left = (steps - step) / max(steps * config.decay, 1.0)
    return min(warm, left, 1.0)


class LearningRate:
    """Sets the rates of all groups of some optimizers; a function of the step, so it has no state to save."""

    def __init__(self, optimizers: list[torch.optim.Optimizer], config: OptimizerConfig, steps: int):
        self.groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self.base = [group["lr"] for group in self.groups]
        self.config, self.steps = config, steps
        self.factor = 0.0  # on the configured rates, of the last step

    def set(self, step: int) -> None:
        self.factor = learning_rate_factor(step, self.steps, self.config)
        for group, rate in zip(self.groups, self.base, strict=True):
            group["lr"] = rate * self.factor
