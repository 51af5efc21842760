"""The run of both methods as a task of `training.loop.train`: networks, loss, samples, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hunyuan_video.errors import Print
from hunyuan_video.flow import FlowSchedule, integrate, make_solver
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.training.auxiliary import AuxiliaryNetwork
from hunyuan_video.training.config import StepDistillationRun
from hunyuan_video.training.tasks.captioned import CaptionedLatents
from hunyuan_video.training.tasks.step_distillation.consistency import Consistency
from hunyuan_video.training.tasks.step_distillation.dmd import DistributionMatching
from hunyuan_video.training.tasks.step_distillation.student import export_student, make_student, predict
from hunyuan_video.training.tasks.teacher import Teacher


class Method(Protocol):
    """Method of step distillation.

    reads_clips: it draws from the latents of clips. solver: with which the student samples, a name in `flow.SOLVERS`.
    The rest as in `ExtendedTask`.
    """

    reads_clips: bool
    solver: str
    auxiliary: dict[str, AuxiliaryNetwork]

    def __init__(self, config: StepDistillationRun, student: nn.Module, teacher: Teacher, data: CaptionedLatents): ...
    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]: ...
    def begin(self, step: int, part: int, parts: int) -> None: ...
    def extra_state(self) -> dict[str, Any]: ...
    def load_extra_state(self, state: dict[str, Any]) -> None: ...


METHODS: dict[str, type[Method]] = {"consistency": Consistency, "dmd": DistributionMatching}


class StepDistillationTask:
    """A student of few steps, by the method that the configuration names."""

    def __init__(
        self,
        config: StepDistillationRun,
        folder: Path,
        report: Print = print,
        data: Any = None,  # in the place of the run's own
    ):
        self.config = config
        method = METHODS[config.method]
        picked = method.reads_clips
        self.data = data or CaptionedLatents(config.world, config.vae, config.text, folder, report, picked=picked)
        torch.manual_seed(config.loop.seed)
        network = HunyuanVideoTransformer.from_pretrained(config.teacher, dtype=torch.float32)
        self.data.check(network)
        teacher = Teacher(network, self.data.embed([""]))
        student = make_student(config.init_from or config.teacher, config.rank, config.targets, config.init_adapter)
        self.network = student
        self.method = method(config, student, teacher, self.data)
        self.auxiliary = self.method.auxiliary
        self.begin, self.loss = self.method.begin, self.method.loss
        self.extra_state, self.load_extra_state = self.method.extra_state, self.method.load_extra_state
        trained = sum(p.numel() for p in student.parameters() if p.requires_grad)
        report(f"{config.method}: {trained / 1e6:.3f} M of the student's parameters are trained")

    def sample(self, prompts: list[str], seed: int) -> Tensor:
        """Latents [N, C, T, h, w] in the student's few steps."""
        condition, config = self.data.embed(prompts), self.config
        with torch.autocast("cpu", torch.bfloat16, enabled=config.loop.precision == "bf16"):
            return integrate(
                lambda x, t: predict(self.network, x, t, condition, config.guidance_scale),
                self.data.noise(len(prompts), seed),
                make_solver(self.method.solver, FlowSchedule(config.steps, config.shift)),
            )

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        sheet, batch = folder / "sheets" / f"step_{step:06d}.png", self.config.loop.micro_batch
        return self.data.judge(self.sample, self.config.eval_prompts, batch, sheet)

    def export(self, folder: Path) -> None:
        export_student(self.network, self.config.rank, folder, student_settings(self.config, self.method, self.network))


def student_settings(config: StepDistillationRun, method: Method, student: HunyuanVideoTransformer) -> dict[str, Any]:
    """The sampling defaults of a student: its own steps, one pass each."""
    settings = {"num_inference_steps": config.steps, "flow_shift": config.shift, "solver": method.solver}
    guidance = {"guidance_scale": config.guidance_scale} if student.config.guidance_embed else {}
    return {**settings, "true_cfg_scale": 1.0, **guidance}
