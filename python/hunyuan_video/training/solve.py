"""Sampling inside a training run: any velocity function, any solver, without the pipeline's bookkeeping."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hunyuan_video.flow import FlowSchedule, classifier_free_guidance, make_solver, with_first_frame

Velocity = Callable[[Tensor, Tensor], Tensor]  # (latents [B, ...], times [B] 0..1) -> [B, ...]


@torch.no_grad()
def solve(
    velocity: Velocity,
    noise: Tensor,  # [B, ...] float32
    steps: int,
    shift: float,
    solver: str = "euler",
    first: Tensor | None = None,  # [B, C, 1, h, w], image-to-video: the first frame, clean at every step
) -> Tensor:
    """From noise to data: [B, ...] float32."""
    schedule = FlowSchedule(steps, shift)
    stepper = make_solver(solver, schedule)

    def field(latents: Tensor, sigma: Tensor) -> Tensor:
        return velocity(with_first_frame(latents, first), sigma.expand(len(latents)))

    x = noise
    for index in range(steps):
        x = with_first_frame(stepper.step(x, field, index), first)
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
