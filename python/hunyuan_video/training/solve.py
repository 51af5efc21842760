"""Sampling inside a training run: any velocity function, any solver, without the pipeline's bookkeeping."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hunyuan_video.flow import FlowSchedule, make_solver


@torch.no_grad()
def solve(
    velocity: Callable[[Tensor, Tensor], Tensor],  # (latents [B, ...], times [B] 0..1) -> [B, ...]
    noise: Tensor,  # [B, ...] float32
    steps: int,
    shift: float,
    solver: str = "euler",
) -> Tensor:
    """From noise to data: [B, ...] float32."""
    schedule = FlowSchedule(steps, shift)
    stepper = make_solver(solver, schedule)
    x = noise
    for index in range(steps):
        x = stepper.step(x, lambda latents, sigma: velocity(latents, sigma.expand(len(latents))), index)
    return x
