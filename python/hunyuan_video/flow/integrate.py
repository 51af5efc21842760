"""From noise to data along a velocity field, with any solver; optionally with a first frame that is given."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hunyuan_video.flow.first_frame import with_first_frame
from hunyuan_video.flow.solvers import Predict, Solver

Field = Callable[[Tensor, Tensor], Tensor]
"""(latents [B, ...] float32, times [B] 0..1) -> velocity [B, ...]."""


def advance(
    solver: Solver,
    predict: Predict,
    latents: Tensor,  # [B, ...] at sigmas[index]
    index: int,  # 0 .. steps - 1
    first: Tensor | None = None,  # [B, C, 1, h, w], image-to-video: clean at every evaluation
) -> Tensor:
    """Latents at sigmas[index + 1], float32: one step of the solver. A first frame stays what it is."""

    def field(x: Tensor, sigma: Tensor) -> Tensor:
        return predict(with_first_frame(x, first), sigma)

    return with_first_frame(solver.step(latents, field, index), first)


@torch.no_grad()
def integrate(
    field: Field,
    noise: Tensor,  # [B, ...] float32
    solver: Solver,
    first: Tensor | None = None,  # as in `advance`
    stop: int | None = None,  # the number of steps to take, all of them where absent
) -> Tensor:
    """From noise to data, or to the noise level sigmas[stop]: [B, ...] float32.

    >>> integrate(field, noise, EulerSolver(FlowSchedule(steps=50, shift=7)))
    """

    def predict(latents: Tensor, sigma: Tensor) -> Tensor:
        return field(latents, sigma.expand(len(latents)))

    latents = noise
    for index in range(len(solver.schedule) if stop is None else stop):
        latents = advance(solver, predict, latents, index, first)
    return latents
