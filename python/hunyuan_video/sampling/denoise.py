"""The denoising loop: a guided transformer as a velocity field, integrated from noise (sigma 1) to data (sigma 0)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hunyuan_video.errors import UserError
from hunyuan_video.flow import FlowSchedule, advance, guided, make_solver, with_first_frame
from hunyuan_video.models.transformer.embeddings import guidance_input
from hunyuan_video.sampling.approximate import Approximation
from hunyuan_video.sampling.prompts import PromptEmbeds, concatenate

if TYPE_CHECKING:
    from hunyuan_video.distributed.team import Team
    from hunyuan_video.models import HunyuanVideoTransformer
    from hunyuan_video.models.transformer.modulation import Modulations
    from hunyuan_video.sampling.request import Settings
    from hunyuan_video.sampling.resume_state import SamplingState


class ModulationTables:
    """A table per distinct prompt batch, always of all timesteps of the schedule: a resumed run makes the same tables,
    and so the same bits, as an unbroken one.

    Models without a `modulations` method (wrappers, other networks) get no table and condition themselves.
    """

    def __init__(self, transformer: HunyuanVideoTransformer, timesteps: Tensor):  # [N] fp32 on the CPU, 0..1000
        self.transformer = transformer
        self.timesteps = timesteps if hasattr(transformer, "modulations") else timesteps[:0]
        self._tables: list[tuple[Tensor, Modulations]] = []
        self._table_of: dict[int, Modulations] = {}  # by id of the pooled text, which the caller keeps

    def at(
        self,
        timestep: Tensor,  # [] fp32 on the CPU
        pooled_text: Tensor,  # [B, pooled_text_dim]; the same object at every step
        guidance: Tensor | None,  # [B]; the same at every step
    ) -> Modulations | None:
        """The vectors at a timestep of the schedule; None at any other."""
        rows = (self.timesteps == timestep).nonzero()
        if not len(rows):
            return None
        if id(pooled_text) not in self._table_of:
            self._table_of[id(pooled_text)] = self._table(pooled_text, guidance)
        return self._table_of[id(pooled_text)].step(int(rows[0]))

    def _table(self, pooled_text: Tensor, guidance: Tensor | None) -> Modulations:
        for known, table in self._tables:  # videos of one prompt share theirs
            if known.shape == pooled_text.shape and torch.equal(known, pooled_text):
                return table
        table = self.transformer.modulations(self.timesteps.to(pooled_text.device), pooled_text, guidance)
        self._tables.append((pooled_text, table))
        return table


class GuidedVelocity:
    """Velocity (noise - data) of a batch of videos under the run's prompts and guidance.

    batch_size: videos per call of the transformer. With 1, the default of the pipeline, every video is computed with
    the same shapes however many are asked for, so its bits do not depend on its neighbors. team: ranks that compute
    together; all of them get the whole velocity.
    """

    def __init__(
        self, transformer: HunyuanVideoTransformer, state: SamplingState, batch_size: int, team: Team | None = None
    ):
        t, h, w = state.latents.shape[2:]
        self.share = None
        if team is not None:
            transformer, self.share = team.sharing(transformer, guided=state.negative is not None)
        self.approximation = Approximation(transformer, state.settings, (t, h, w))
        self.approximation.load_state(state.cache)
        self.step = state.step  # that evaluations are of
        self.transformer = transformer = self.approximation.transformer
        self.settings = state.settings
        self.batch_size = batch_size
        self.image = state.image
        self.denoised: Tensor  # clean latents predicted by the latest call
        self.device = next(transformer.parameters()).device
        self.batches = [
            self._conditioning(state, start, min(start + batch_size, len(state.embeds)))
            for start in range(0, len(state.embeds), batch_size)
        ]
        self.modulations = ModulationTables(transformer, schedule_of(state).timesteps)

    def _conditioning(self, state: SamplingState, start: int, stop: int) -> PromptEmbeds:
        """Rows start..stop of the prompts; with classifier-free guidance one doubled batch, the negative rows first."""
        embeds = state.embeds.rows(start, stop)
        if state.negative is not None:
            embeds = concatenate([state.negative.rows(start, stop), embeds])
        return embeds.to(self.device)

    @torch.no_grad()
    def __call__(self, latents: Tensor, sigma: Tensor) -> Tensor:
        """latents [N, C, T, h, w] float32 on the CPU at noise level sigma [] in 0..1 -> velocity, like latents.

        An image is the first latent frame, clean at any sigma, and has no velocity.
        """
        parts = enumerate(zip(latents.split(self.batch_size), self.batches, strict=True))
        velocity = torch.cat([self._batch(number, part, embeds, sigma) for number, (part, embeds) in parts])
        if not velocity.isfinite().all():
            raise UserError(
                f"the transformer produced NaN or infinity at sigma {float(sigma):.3f} in {self.transformer.dtype}; "
                "use float32 or bfloat16 (--dtype), or check the checkpoint"
            )
        if self.image is not None:
            velocity = with_first_frame(velocity, torch.zeros_like(self.image))
        self.denoised = latents - sigma * velocity
        return velocity

    def _batch(self, number: int, latents: Tensor, embeds: PromptEmbeds, sigma: Tensor) -> Tensor:
        self.approximation.begin(self.step, number, float(sigma))
        timestep = 1000 * sigma
        guidance = self._guidance(len(embeds))
        known = self.modulations.at(timestep, embeds.pooled, guidance)

        def field(inputs: Tensor, timesteps: Tensor) -> Tensor:  # one row for each row of embeds
            rows = slice(None) if self.share is None else self.share.rows(len(inputs))
            velocity = self.transformer(
                inputs[rows],
                timesteps[rows],
                text=embeds.text[rows],
                text_mask=None if embeds.mask is None else embeds.mask[rows],
                pooled_text=embeds.pooled[rows],
                guidance=None if guidance is None else guidance[rows],
                **({} if known is None else {"modulations": known if self.share is None else known.rows(rows)}),
            ).float()
            return velocity if self.share is None else self.share.joined(velocity)

        inputs, timesteps = latents.to(self.device), timestep.to(self.device).expand(len(latents))
        if len(embeds) == len(latents):
            return field(inputs, timesteps).to(latents.device)
        settings = self.settings
        velocity = guided(field, inputs, timesteps, settings.true_cfg_scale, settings.guidance_rescale)
        return velocity.to(latents.device)

    def _guidance(self, batch: int) -> Tensor | None:  # [B] or None
        if not self.transformer.config.guidance_embed:
            return None
        return guidance_input(self.settings.guidance_scale, self.transformer.dtype).to(self.device).expand(batch)


@dataclass
class Step:
    """One finished step."""

    index: int  # 0..total - 1
    timestep: Tensor  # [], 1000 * sigma before the step
    denoised: Tensor  # [N, C, T, h, w] the clean latents the last velocity pointed to: x - sigma * v


def schedule_of(state: SamplingState) -> FlowSchedule:
    """All noise levels of a run, of the finished steps too."""
    return schedule_for(state.settings)


def schedule_for(settings: Settings) -> FlowSchedule:
    """Noise levels that such a run visits; with a start, from that of the start on."""
    if settings.sigmas is not None:
        schedule = FlowSchedule.of_levels(settings.sigmas)
    else:
        schedule = FlowSchedule(settings.num_inference_steps, settings.flow_shift)
    return schedule.last(settings.steps)


def denoise(velocity: GuidedVelocity, state: SamplingState) -> Iterator[Step]:
    """Runs the remaining steps of `state`, up to date (latents, solver history, cache, step) at every yield."""
    settings, schedule = state.settings, schedule_of(state)
    solver = make_solver(settings.solver, schedule)
    solver.load_state_dict(state.solver)
    for index in range(state.step, len(schedule)):
        velocity.step = index
        latents = advance(solver, velocity, state.latents, index, state.image)
        history = {name: _as_tensor(value) for name, value in solver.state_dict().items()}
        state.latents, state.solver, state.step = latents, history, index + 1
        state.cache = velocity.approximation.state()
        yield Step(index, schedule.timesteps[index], velocity.denoised)


def _as_tensor(value: Tensor | float | int) -> Tensor:
    """A solver's number as a tensor on the CPU, whatever the program's default device; a tensor as it is."""
    return value if isinstance(value, Tensor) else torch.tensor(value, device="cpu")
