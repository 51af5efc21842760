"""The training objective (paper section 4.5): x_t = (1 - t) data + t noise, and the model predicts v = noise - data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hunyuan_video.flow.first_frame import with_first_frame
from hunyuan_video.flow.schedule import per_sample
from hunyuan_video.flow.shift import check_shift, shift_times


class FlowBatch(NamedTuple):
    """One draw of the objective."""

    latents: Tensor  # [B, ...] x_t, dtype of the data
    times: Tensor  # [B] fp32, 0 (data) .. 1 (noise)
    target: Tensor  # [B, ...] velocity noise - data, dtype of the data

    @property
    def timesteps(self) -> Tensor:
        """[B] fp32, what the transformer is told: 1000 * times."""
        return 1000 * self.times


@dataclasses.dataclass(frozen=True)
class FlowObjective:
    """Logit-normal times, straight paths, mean squared velocity error.

    mean, std: of the normal before the sigmoid (the paper names the distribution only; 0 and 1 are SD3's).
    shift: moves times towards noise as in sampling, 1 = none.
    weighting: times [B] -> weights [B] of the samples' losses.
    first_frame: image-to-video (paper section 7.2). The first frame of the data [B, C, T, h, w] is the image's: it is
    not noised (its time is 0) and no part of the loss.
    """

    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0
    weighting: Callable[[Tensor], Tensor] | None = None
    first_frame: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise ValueError(f"mean must be finite, got {self.mean}")
        if not (self.std >= 0 and math.isfinite(self.std)):
            raise ValueError(f"std must be finite and not negative, got {self.std}")
        check_shift(self.shift)

    def draw(
        self,
        data: Tensor,  # [B, ...] model-space latents
        generator: torch.Generator | None = None,
        times: Tensor | None = None,  # [B], drawn where absent
        noise: Tensor | None = None,  # like data, drawn where absent
    ) -> FlowBatch:
        """Times first, then noise, both from `generator` (in its device's float32 stream, then moved to the data)."""
        if times is None:
            times = sample_timesteps(data.shape[0], mean=self.mean, std=self.std, shift=self.shift, generator=generator)
        if noise is None:
            device = data.device if generator is None else generator.device
            noise = torch.randn(data.shape, generator=generator, device=device, dtype=torch.float32)
        times, noise = times.to(data.device, torch.float32), noise.to(data)
        latents = interpolate(data, noise, times)
        if self.first_frame:
            if data.ndim != 5 or data.shape[2] < 2:
                raise ValueError(f"with first_frame data must be [B, C, T >= 2, h, w], got {list(data.shape)}")
            latents = with_first_frame(latents, data[:, :, :1])
        return FlowBatch(latents, times, velocity_target(data, noise))

    def loss(
        self,
        velocity: Tensor,  # [B, ...] prediction
        batch: FlowBatch,
    ) -> Tensor:
        """Scalar fp32: mean over the batch of the (weighted) `loss_per_sample`."""
        losses = self.loss_per_sample(velocity, batch)
        return losses.mean() if self.weighting is None else (self.weighting(batch.times) * losses).mean()

    def loss_per_sample(self, velocity: Tensor, batch: FlowBatch) -> Tensor:
        """[B] fp32: each sample's mean squared velocity error, unweighted; without a given first frame."""
        if velocity.shape != batch.target.shape:
            raise ValueError(f"velocity must have shape {list(batch.target.shape)}, got {list(velocity.shape)}")
        error = velocity.float() - batch.target.float()
        return (error[:, :, 1:] if self.first_frame else error).square().flatten(1).mean(dim=1)


def sample_timesteps(
    count: int,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    shift: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """[count] fp32 logit-normal times in (0, 1), shifted, on the generator's device; timestep = 1000 times them."""
    normal = torch.randn(
        count, generator=generator, device=None if generator is None else generator.device, dtype=torch.float32
    )
    return shift_times(torch.sigmoid(mean + std * normal), shift)


def velocity_target(
    data: Tensor,  # [B, ...]
    noise: Tensor,  # [B, ...]
) -> Tensor:
    """noise - data: the slope dx_t/dt of `interpolate`, the same at every t."""
    return noise - data


def interpolate(
    data: Tensor,  # [B, ...]
    noise: Tensor,  # [B, ...]
    times: Tensor,  # [B], 0..1
) -> Tensor:
    """(1 - t) data + t noise, in the dtype of the data."""
    t = per_sample(times, data).to(data.dtype)
    return (1 - t) * data + t * noise
