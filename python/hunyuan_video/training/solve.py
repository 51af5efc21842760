"""Sampling inside a training run: any velocity function, any solver, without the pipeline's bookkeeping."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hunyuan_video.flow import FlowSchedule, classifier_free_guidance, make_solver

Velocity = Callable[[Tensor, Tensor], Tensor]  # (latents [B, ...], times [B] 0..1) -> [B, ...]


@torch.no_grad()
def solve(
    velocity: Velocity,
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


def guided(
    network: nn.Module,
    both: dict[str, Tensor],  # the transformer's arguments, [2 B, ...] each: B empty captions, then the captions
    scale: float,
) -> Velocity:
    """The velocity under classifier-free guidance: both passes in one batch."""

    def velocity(latents: Tensor, times: Tensor) -> Tensor:
        timesteps = 1000 * torch.cat((times, times)).to(latents.device)
        empty, full = network(torch.cat((latents, latents)), timesteps, **both).float().chunk(2)
        return classifier_free_guidance(full, empty, scale)

    return velocity
