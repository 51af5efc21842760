"""From one noise level to the next: solvers of dx/dsigma = v(x, sigma), v = noise - data.

A solver steps through a `FlowSchedule` in order. `state_dict` holds all that it remembers between steps, so that saving
latents + state after step i and loading them before step i + 1 gives the same bits as an unbroken run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hunyuan_video.flow.schedule import FlowSchedule, per_sample

Predict = Callable[[Tensor, Tensor], Tensor]
"""(latents [B, ...] in float32, sigma: scalar fp32 tensor on the CPU) -> velocity [B, ...] in any float dtype."""


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _level(sigma: float | Tensor, like: Tensor) -> Tensor:
    """A noise level as a float32 tensor that broadcasts over `like`; [B] levels are per sample."""
    level = sigma.float() if isinstance(sigma, Tensor) else torch.tensor(sigma, dtype=torch.float32, device="cpu")
    return per_sample(level, like)


def euler_step(
    latents: Tensor,  # [B, ...] any float dtype
    velocity: Tensor,  # like latents, any float dtype
    sigma: float | Tensor,  # the level of latents: scalar, or [B]
    sigma_next: float | Tensor,  # the level to go to
) -> Tensor:
    """latents + (sigma_next - sigma) * velocity, computed and returned in float32 (float64 latents stay float64)."""
    return _wide(latents) + _wide(velocity) * (_level(sigma_next, latents) - _level(sigma, latents))


class Solver:
    """Base of the solvers: `step` takes the latents of level `index` to level `index + 1`.

    evaluations: model calls of one step, at most (for progress and time estimates).
    """

    name = ""
    evaluations = 1

    def __init__(self, schedule: FlowSchedule):
        self.schedule = schedule

    def step(
        self,
        latents: Tensor,  # [B, ...] at sigmas[index]
        predict: Predict,
        index: int,  # 0 .. steps - 1
    ) -> Tensor:
        """Latents at sigmas[index + 1], float32. Raises IndexError outside the schedule."""
        if not 0 <= index < len(self.schedule):
            raise IndexError(f"step {index} is outside the schedule's 0..{len(self.schedule) - 1}")
        return self._advance(_wide(latents), predict, index)

    def _advance(self, x: Tensor, predict: Predict, index: int) -> Tensor:
        sigma, sigma_next = self.schedule.sigmas[index], self.schedule.sigmas[index + 1]
        return euler_step(x, predict(x, sigma), sigma, sigma_next)

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered between steps, as tensors and numbers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a `state_dict`. Raises ValueError where the state is not this solver's."""
        if state:
            raise ValueError(
                f"solver {self.name!r} keeps no state, got entries {sorted(state)}: resume with the same solver"
            )


class EulerSolver(Solver):
    """First order, one evaluation a step: the paper's sampler."""

    name = "euler"


class HeunSolver(Solver):
    """Second order, two evaluations a step: the mean of the slopes at both ends; the last step to data is Euler's."""

    name = "heun"
    evaluations = 2

    def _advance(self, x: Tensor, predict: Predict, index: int) -> Tensor:
        sigma, sigma_next = self.schedule.sigmas[index], self.schedule.sigmas[index + 1]
        first = _wide(predict(x, sigma))
        reached = euler_step(x, first, sigma, sigma_next)
        if index == len(self.schedule) - 1:  # no model is trained at sigma = 0
            return reached
        return euler_step(x, (first + _wide(predict(reached, sigma_next))) / 2, sigma, sigma_next)


class AdamsBashforthSolver(Solver):
    """Second order, one evaluation a step: extrapolates the velocity half a step ahead from the two last ones.

    Works in sigma, where the velocity is smooth up to both ends (log-SNR solvers such as DPM-Solver++ must treat the
    ends as exceptions, and lose accuracy there). The first step is Euler's. A step much longer than the one before, as
    the last ones of a strongly shifted schedule, would extrapolate too far: the weight, 1/2 on equal steps, is capped.
    """

    name = "ab2"
    MAX_WEIGHT = 0.6  # of the velocity's change; measured on Gaussian mixtures, shifts 1..17, 6..100 steps

    def __init__(self, schedule: FlowSchedule):
        super().__init__(schedule)
        self._previous: Tensor | None = None  # velocity of the step before
        self._index = -1  # of that step

    def _advance(self, x: Tensor, predict: Predict, index: int) -> Tensor:
        if index > 0 and self._index != index - 1:
            raise ValueError(
                f"step {index} does not follow step {self._index}: load the solver state of step {index - 1}"
            )
        sigma, sigma_next = self.schedule.sigmas[index], self.schedule.sigmas[index + 1]
        velocity = _wide(predict(x, sigma))
        slope = velocity
        if index > 0 and self._previous is not None:
            ratio = (sigma_next - sigma) / (sigma - self.schedule.sigmas[index - 1])
            slope = velocity + min(float(ratio) / 2, self.MAX_WEIGHT) * (velocity - self._previous)
        self._previous, self._index = velocity, index
        return euler_step(x, slope, sigma, sigma_next)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._previous is None else {"previous": self._previous, "index": self._index}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state and set(state) != {"previous", "index"}:
            raise ValueError(f"solver {self.name!r} expects state entries ['index', 'previous'], got {sorted(state)}")
        self._previous, self._index = state.get("previous"), int(state.get("index", -1))


class LCMSolver(Solver):
    """Clean prediction, then new noise: multistep consistency sampling (arXiv 2303.01469, algorithm 1), as LCM, DMD2.

    x_next = (1 - sigma_next) (x - sigma v) + sigma_next n. For models distilled to it; others lose what they had found.
    The noise n of a video and step depends on the video's first latents only: not on the batch it is in, the device or
    the rank, and a resumed run draws the same. State: a seed per video. Training draws with a generator of its own.

    draw: latents [B, ...] -> noise like them, in place of the seeded noise.
    """

    name = "lcm"

    def __init__(self, schedule: FlowSchedule, draw: Callable[[Tensor], Tensor] | None = None):
        super().__init__(schedule)
        self._draw = draw
        self._seeds: Tensor | None = None  # [B] int64

    def _advance(self, x: Tensor, predict: Predict, index: int) -> Tensor:
        if self._draw is None and index == 0:
            self._seeds = torch.tensor([_seed_of(video) for video in x], device="cpu")
        if self._draw is None and self._seeds is None:
            raise ValueError(f"step {index} needs the noise seeds of step 0: load the solver state of step {index - 1}")
        sigma, sigma_next = self.schedule.sigmas[index], self.schedule.sigmas[index + 1]
        clean = euler_step(x, predict(x, sigma), sigma, 0.0)
        if index == len(self.schedule) - 1:
            return clean
        return (1 - sigma_next) * clean + sigma_next * self._noise(x, index)

    def _noise(self, x: Tensor, index: int) -> Tensor:  # like x
        if self._draw is not None:
            return self._draw(x)
        assert self._seeds is not None
        generators = (torch.Generator().manual_seed(int(seed) + index) for seed in self._seeds)
        drawn = [
            torch.randn(x.shape[1:], generator=generator, dtype=torch.float32, device="cpu") for generator in generators
        ]
        return torch.stack(drawn).to(x)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._seeds is None else {"seeds": self._seeds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state and set(state) != {"seeds"}:
            raise ValueError(f"solver {self.name!r} expects state entries ['seeds'], got {sorted(state)}")
        self._seeds = state.get("seeds")


def _seed_of(video: Tensor) -> int:
    """60 bits from the values of a video's first latents."""
    data = video.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little") >> 4


SOLVERS: dict[str, type[Solver]] = {
    solver.name: solver for solver in (EulerSolver, HeunSolver, AdamsBashforthSolver, LCMSolver)
}


def make_solver(name: str, schedule: FlowSchedule) -> Solver:
    """The solver of a name in `SOLVERS`, at the start of the schedule. Raises ValueError on an unknown name."""
    if name not in SOLVERS:
        raise ValueError(f"solver must be one of {sorted(SOLVERS)}, got {name!r}")
    return SOLVERS[name](schedule)
