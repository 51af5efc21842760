"""The noise levels a sampler visits (paper section 5.1, "timestep shift")."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence

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
        self.shift: float | None = default_shift(self.steps) if shift is None else float(shift)
        check_shift(self.shift)
        self.sigmas = shift_times(torch.linspace(1, 0, self.steps + 1, dtype=torch.float32, device="cpu"), self.shift)

    @classmethod
    def of_levels(cls, levels: Sequence[float]) -> FlowSchedule:
        """A schedule of given noise levels, at least two: strictly falling within 0..1, the last one 0; shift is None.

        Raises ValueError for others. The first may be below 1: latents are then taken for this level's.
        """
        sigmas = torch.tensor([float(level) for level in levels], dtype=torch.float32, device="cpu")
        if len(sigmas) < 2 or not (sigmas.diff() < 0).all() or sigmas[0] > 1 or sigmas[-1] != 0:
            raise ValueError(f"levels must fall from at most 1 to 0, got {list(levels)}")
        schedule = cls(len(sigmas) - 1)
        schedule.shift, schedule.sigmas = None, sigmas
        return schedule

    def last(self, steps: int) -> FlowSchedule:
        """The last 1 .. len(self) steps of this schedule: for latents that begin at one of its levels."""
        if not 1 <= steps <= len(self):
            raise ValueError(f"steps must be in 1..{len(self)}, got {steps}")
        schedule = copy.copy(self)
        schedule.steps, schedule.sigmas = steps, self.sigmas[-steps - 1 :]
        return schedule

    @property
    def timesteps(self) -> Tensor:
        return 1000 * self.sigmas[:-1]

    def __len__(self) -> int:
        return self.steps

    def __repr__(self) -> str:
        return f"FlowSchedule(steps={self.steps}, shift={self.shift})"
