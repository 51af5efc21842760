"""The noise levels a sampler visits (paper section 5.1, "timestep shift")."""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from hunyuan_video.flow.shift import check_shift, default_shift, shift_times


def per_sample(values: Tensor, like: Tensor) -> Tensor:  # [B] or [] -> what broadcasts over like [B, ...]
    """One value for each sample, or a single value for all of them."""
    return values.view(-1, *[1] * (like.ndim - 1)) if values.ndim == 1 else values


class FlowSchedule:
    """Noise levels from pure noise to data.

    steps: model evaluations of a first-order solver, >= 1. shift: > 0, None for `default_shift(steps)`.
    sigmas: [steps + 1] fp32 on the CPU, from exactly 1 (noise) down to exactly 0 (data).
    timesteps: [steps] fp32, 1000 * sigmas[:-1]: what the transformer is told.
    Raises ValueError on steps < 1 or a shift that is not positive and finite, TypeError on steps that are not whole.
    """

    def __init__(self, steps: int, shift: float | None = None):
        try:
            self.steps = operator.index(steps)
        except TypeError:
            raise TypeError(f"steps must be a whole number, got {steps!r}") from None
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.shift = default_shift(self.steps) if shift is None else float(shift)
        check_shift(self.shift)
        self.sigmas = shift_times(torch.linspace(1, 0, self.steps + 1, dtype=torch.float32, device="cpu"), self.shift)
        self.timesteps = 1000 * self.sigmas[:-1]

    def __len__(self) -> int:
        return self.steps

    def __repr__(self) -> str:
        return f"FlowSchedule(steps={self.steps}, shift={self.shift})"
