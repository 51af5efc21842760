"""Phased consistency distillation (LCM, arXiv 2310.04378; PCM, arXiv 2405.18407).

The time axis is cut into as many phases as the student has steps. From data noised to a level t the teacher's solver
makes one step (or a few) towards data; the student's jump from t to the end of the phase must equal the jump of its
own average from where the teacher arrived. The student then samples with plain Euler steps at the phase ends.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from hunyuan_video.distributed.fsdp import whole
from hunyuan_video.flow import FlowSchedule, euler_step, interpolate
from hunyuan_video.training.auxiliary import AuxiliaryNetwork
from hunyuan_video.training.config import StepDistillationRun
from hunyuan_video.training.tasks.captioned import CaptionedLatents
from hunyuan_video.training.tasks.step_distillation.losses import pseudo_huber
from hunyuan_video.training.tasks.step_distillation.student import predict
from hunyuan_video.training.tasks.teacher import Condition, Teacher


class Consistency:
    """The method: the student is trained, `target` is its exponential average."""

    reads_clips, solver = True, "euler"

    def __init__(self, config: StepDistillationRun, student: nn.Module, teacher: Teacher, data: CaptionedLatents):
        self.config, self.teacher, self.data = config, teacher, data
        self.student, self.target = student, copy.deepcopy(student).requires_grad_(False)
        self.trained = [name for name, parameter in student.named_parameters() if parameter.requires_grad]
        self.auxiliary: dict[str, AuxiliaryNetwork] = {}
        self.sigmas = FlowSchedule(config.teacher_levels, config.shift).sigmas
        self.levels_per_phase = config.teacher_levels // config.steps
        self.moved_at = -1  # step

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        config = self.config
        data, picks = self.data.pick(config.loop.micro_batch, generator)
        condition = self.data.embed(self.data.captions(picks, generator))
        start = torch.randint(
            config.teacher_levels, (len(data),), generator=generator, device="cpu"
        )  # index into sigmas
        noise = torch.randn(data.shape, generator=generator, dtype=torch.float32, device="cpu")
        times = self.sigmas[start]
        latents = interpolate(data, noise, times)
        end = (start // self.levels_per_phase + 1) * self.levels_per_phase  # of the phase
        goal = self.sigmas[end]
        with torch.no_grad():
            reached, index = self.teach(latents, start, end, condition)
            moved = self.sigmas[index]
            slope = predict(self.target, reached, moved, condition, config.guidance_scale)
            target = euler_step(reached, slope, moved, goal)  # the consistency function of straight paths
        slope = predict(self.student, latents, times, condition, config.guidance_scale)
        made = euler_step(latents, slope, times, goal)
        return pseudo_huber(made - target, config.huber), {"distance": (made - target).detach().square().mean().item()}

    def teach(self, latents: Tensor, start: Tensor, end: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """`teacher_steps` Euler steps of the teacher, none beyond the end of the phase; latents and level reached."""
        index = start
        for _ in range(self.config.teacher_steps):
            following = torch.minimum(index + 1, end)
            velocity = self.teacher.velocity(latents, self.sigmas[index], condition, self.config.guidance_scale)
            latents = euler_step(latents, velocity, self.sigmas[index], self.sigmas[following])
            index = following
        return latents, index

    @torch.no_grad()
    def begin(self, step: int, part: int, parts: int) -> None:
        """Once a step, on every rank (part 0 is the first rank's), the target moves towards the student."""
        if step != self.moved_at:
            self.moved_at = step
            live, target = dict(self.student.named_parameters()), dict(self.target.named_parameters())
            for name in self.trained:
                target[name].lerp_(whole(live[name]), 1 - self.config.ema)

    def extra_state(self) -> dict[str, Tensor]:
        """The target's weights, by name."""
        parameters = dict(self.target.named_parameters())
        return {name: parameters[name].detach() for name in self.trained}

    @torch.no_grad()
    def load_extra_state(self, state: dict[str, Any]) -> None:
        parameters = dict(self.target.named_parameters())
        for name in self.trained:
            parameters[name].copy_(state[name])
