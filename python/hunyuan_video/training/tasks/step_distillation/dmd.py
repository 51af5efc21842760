"""Distribution matching distillation (DMD2, arXiv 2405.14867), without its adversarial branch.

The student's clips are noised again and shown to two scores: the teacher's (with guidance) knows real clips, the fake
score is trained on the student's own. Their difference moves the student towards clips the teacher finds likely. No
data is needed: the student starts from noise and passes through its own few steps (backward simulation).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hunyuan_video.flow import FlowObjective, FlowSchedule, LCMSolver, euler_step, integrate, per_sample
from hunyuan_video.training.auxiliary import AuxiliaryNetwork
from hunyuan_video.training.config import StepDistillationRun
from hunyuan_video.training.tasks.captioned import CaptionedLatents
from hunyuan_video.training.tasks.step_distillation.losses import distribution_matching_loss
from hunyuan_video.training.tasks.step_distillation.student import make_student, predict
from hunyuan_video.training.tasks.teacher import Condition, Teacher


class DistributionMatching:
    """The method: `fake_updates` steps of the fake score, an auxiliary network, then one of the student."""

    reads_clips, solver = False, "lcm"

    def __init__(self, config: StepDistillationRun, student: nn.Module, teacher: Teacher, data: CaptionedLatents):
        self.config, self.teacher, self.data = config, teacher, data
        self.student = student
        self.fake = AuxiliaryNetwork(make_student(config.teacher, config.fake_rank), config.fake_optimizer)
        self.auxiliary = {"fake": self.fake}
        self.schedule = FlowSchedule(config.steps, config.shift)
        self.objective = FlowObjective()

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        fakes = []
        for _ in range(self.config.fake_updates):
            condition = self.condition(generator)
            with torch.no_grad():
                clean = self.generate(condition, generator)
            loss = self.fake_loss(clean, condition, generator)
            self.fake.update(loss, step)
            fakes.append(loss.item())
        condition = self.condition(generator)
        loss = self.student_loss(self.generate(condition, generator), condition, generator)
        return loss, {"fake": sum(fakes) / len(fakes)}

    def condition(self, generator: torch.Generator) -> Condition:
        """Captions of random scenes; their clips are not needed."""
        count = self.config.loop.micro_batch
        picks = torch.randint(len(self.data.scenes), (count,), generator=generator, device="cpu").tolist()
        return self.data.embed(self.data.captions(picks, generator))

    def generate(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """Clean latents that the student predicts at a random one of its steps, after the steps before it.

        Only the last prediction has a gradient (where gradients are on at all).
        """
        shape = (len(condition["text"]), *self.data.shape)
        last = int(torch.randint(self.config.steps, (1,), generator=generator, device="cpu"))

        def field(latents: Tensor, times: Tensor) -> Tensor:
            return predict(self.student, latents, times, condition, self.config.guidance_scale)

        def draw(latents: Tensor) -> Tensor:
            return torch.randn(latents.shape, generator=generator, dtype=torch.float32, device="cpu")

        noise = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
        x = integrate(field, noise, LCMSolver(self.schedule, draw), stop=last)
        sigma = self.schedule.sigmas[last]
        return euler_step(x, field(x, sigma.expand(len(x))), sigma, 0.0)

    def fake_loss(self, clean: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
        """Flow matching on the student's clips."""
        batch = self.objective.draw(clean, generator, times=self.times(len(clean), generator))
        velocity = predict(self.fake.network, batch.latents, batch.times, condition, 1.0)
        return self.objective.loss(velocity, batch)

    def student_loss(self, clean: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
        """Distribution matching at a random noise level."""
        with torch.no_grad():
            batch = self.objective.draw(clean.detach(), generator, times=self.times(len(clean), generator))
            level = per_sample(batch.times, clean)
            guided = self.teacher.velocity(batch.latents, batch.times, condition, self.config.guidance_scale)
            real = batch.latents - level * guided
            fake = batch.latents - level * predict(self.fake.network, batch.latents, batch.times, condition, 1.0)
        return distribution_matching_loss(clean, real, fake)

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        """[count] even in `score_times`."""
        low, high = self.config.score_times
        return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float32, device="cpu")

    def begin(self, step: int, part: int, parts: int) -> None:
        """Nothing to prepare."""

    def extra_state(self) -> dict[str, Any]:
        """Nothing beyond the networks."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""
