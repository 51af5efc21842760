"""Guidance distillation (paper section 5.2; arXiv 2210.03142): one pass that equals classifier-free guidance.

The student is the teacher with one more input, the guidance scale w, embedded like the timestep. It regresses
v_u + w (v_c - v_u), the teacher's combined prediction, at w drawn evenly from a range (1 to 8), on noised data.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hunyuan_video.data.toyworld import hits, judge_clip
from hunyuan_video.errors import Print, UserError
from hunyuan_video.evaluation.prompt_following import paired_difference
from hunyuan_video.files import write_json
from hunyuan_video.flow import (
    EulerSolver,
    FlowBatch,
    FlowObjective,
    FlowSchedule,
    classifier_free_guidance,
    integrate,
    sample_timesteps,
)
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.transformer.embeddings import SINUSOID_DIM, frequencies, guidance_input
from hunyuan_video.training.config import GuidanceDistillationRun
from hunyuan_video.training.parts import load_trainable
from hunyuan_video.training.tasks.captioned import CaptionedLatents
from hunyuan_video.training.tasks.fields import Condition
from hunyuan_video.training.tasks.teacher import Teacher

if TYPE_CHECKING:
    from hunyuan_video.training.tasks.teacher import Teacher

FASTEST = 4.0  # radians that a component of the embedding may turn from one guidance scale to the next


def guidance_student(teacher: HunyuanVideoTransformer) -> HunyuanVideoTransformer:
    """The teacher with a guidance embedder whose last layer is zero: at first, the conditional branch at every scale.

    Its first layer starts blind to the fast part of the sinusoid, which differs at random between neighboring scales.
    Raises ValueError where the teacher has a guidance input already.
    """
    if teacher.config.guidance_embed:
        raise ValueError("the teacher already takes the guidance scale as an input; distil from the model before it")
    config = TransformerConfig.from_dict({**teacher.config.to_dict("native"), "guidance_embed": True})
    student = HunyuanVideoTransformer(config).to(teacher.dtype)
    missing = student.load_state_dict(teacher.state_dict(), strict=False).missing_keys
    assert all(name.startswith("guidance_in.") for name in missing), missing
    last = student.guidance_in.mlp[2]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    fast = 1000 * frequencies(SINUSOID_DIM // 2, last.weight.device) > FASTEST
    student.guidance_in.mlp[0].weight.data[:, fast.repeat(2)] = 0
    return student


def target_energy(
    empty: Tensor,  # [B, C, T, h, w] the teacher's velocity without the caption
    full: Tensor,  # [B, C, T, h, w] with it
    scale: Tensor,  # [B]
) -> Tensor:
    """[B] |v_c|^2 + (w - 1)^2 |v_c - v_u|^2 per element: what the target's square would be, were the two unrelated."""
    energy, apart = (x.square().flatten(1).mean(dim=1) for x in (full, full - empty))
    return energy + (scale - 1) ** 2 * apart


class GuidanceDistillationTask:
    """The run as a task of `training.loop.train`."""

    def __init__(
        self,
        config: GuidanceDistillationRun,
        folder: Path,
        report: Print = print,
        data: Any = None,  # in the place of the run's own
    ):
        self.config = config
        self.data = data or CaptionedLatents(config.world, config.vae, config.text, folder, report)
        torch.manual_seed(config.loop.seed)
        network = load_trainable(config.teacher)  # the student's weights are its
        self.data.check(network)
        try:
            self.network = guidance_student(network)
        except ValueError as error:
            raise UserError(f"teacher {config.teacher}: {error}") from None
        self.teacher = Teacher(network, self.data.embed([""]))
        self.objective = FlowObjective(config.t_mean, config.t_std, config.t_shift)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        config = self.config
        latents, picks = self.data.pick(config.loop.micro_batch, generator)
        batch = self.draw(latents, generator)
        condition = self.data.embed(self.data.captions(picks, generator))
        low, high = config.scales
        scale = (
            low
            + (high - low)
            * torch.rand(len(latents), generator=generator, dtype=torch.float32, device="cpu") ** config.scale_power
        )
        empty, full = self.teacher.branches(batch.latents, batch.times, condition)
        velocity = self.network(
            batch.latents, batch.timesteps, **condition, guidance=guidance_input(scale, torch.float32)
        )
        target = classifier_free_guidance(full, empty, scale)
        losses = self.objective.loss_per_sample(velocity, batch._replace(target=target))
        return (losses / target_energy(empty, full, scale) if config.balanced else losses).mean(), {}

    def draw(self, latents: Tensor, generator: torch.Generator) -> FlowBatch:
        """Noised data; a share of the times is drawn evenly, for both ends, which logit-normal times hardly reach."""
        config, count = self.config, len(latents)
        times = sample_timesteps(count, mean=config.t_mean, std=config.t_std, shift=config.t_shift, generator=generator)
        if config.even_times > 0:
            even = torch.rand(count, generator=generator, dtype=torch.float32, device="cpu") < config.even_times
            times = torch.where(even, torch.rand(count, generator=generator, dtype=torch.float32, device="cpu"), times)
        return self.objective.draw(latents, generator, times=times)

    def sample(self, model: Teacher, scale: float, prompts: list[str], seed: int) -> Tensor:
        """Euler latents [N, C, T, h, w] of student or teacher."""
        condition, config = self.data.embed(prompts), self.config
        with torch.autocast("cpu", torch.bfloat16, enabled=config.loop.precision == "bf16"):
            return integrate(
                lambda x, t: model.velocity(x, t, condition, scale),
                self.data.noise(len(prompts), seed),
                EulerSolver(FlowSchedule(config.sample_steps, config.t_shift)),
            )

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        config = self.config
        student = Student(self.network)
        sheet = folder / "sheets" / f"step_{step:06d}.png"
        sample = functools.partial(self.sample, student, config.eval_scale)
        table = self.data.judge(sample, config.eval_prompts, at_once(config), sheet)
        if step == config.loop.steps:
            guidance_report(self, student, folder / "report.json")
        return table

    def export(self, folder: Path) -> None:
        self.network.save_pretrained(folder)


def at_once(config: GuidanceDistillationRun) -> int:
    """Clips of a pass without gradients: half a micro-batch, because the teacher's two branches double it."""
    return max(config.loop.micro_batch // 2, 1)


class Student(Teacher):
    """The student as it is now, without gradients; it stays trainable."""

    def __init__(self, network: HunyuanVideoTransformer):
        self.network, self.empty, self.embedded = network, {}, True


TIMES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
CLIPS = 32
Hits = dict[str, list[bool]]  # column -> clips, see `data.toyworld.hits`


def guidance_report(task: GuidanceDistillationTask, student: Teacher, path: Path) -> dict:
    """Writes and returns {"velocity_error": {w: {t: ..}}, "prompt_following": {w: {student | teacher | difference}}}.

    The file is there after the first part already and grows by one scale after the other.
    """
    config = task.config
    report: dict = {"velocity_error": velocity_errors(task, student), "prompt_following": {}}
    write_json(path, report)
    for scale in config.report_scales if config.report_prompts else ():
        hits = {name: followed(task, model, scale) for name, model in (("student", student), ("teacher", task.teacher))}
        report["prompt_following"][f"{scale:g}"] = compare(**hits)
        write_json(path, report)
    return report


def followed(task: GuidanceDistillationTask, model: Teacher, scale: float) -> Hits:
    """Prompt following of the clips of `report_prompts` prompts, with the same seeds for every model."""
    sample = functools.partial(task.sample, model, scale)
    clips, scenes, _ = task.data.samples(sample, task.config.report_prompts, at_once(task.config))
    return hits([judge_clip(clip, scene) for clip, scene in zip(clips, scenes, strict=True)], scenes)


def compare(student: Hits, teacher: Hits) -> dict[str, dict]:
    """Fractions of both, and "difference": student - teacher over pairs of clips with its standard error."""
    attributes = [name for name, hits in student.items() if hits]
    return {
        "student": {name: sum(student[name]) / len(student[name]) for name in attributes},
        "teacher": {name: sum(teacher[name]) / len(teacher[name]) for name in attributes},
        "difference": {name: paired_difference(student[name], teacher[name]) for name in attributes},
    }


@torch.no_grad()
def velocity_errors(task: GuidanceDistillationTask, student: Teacher) -> dict[str, dict[str, float]]:
    """Relative error |student - teacher| / |teacher| (root mean squares over clips) at every scale and time.

    "undistilled": the error of the teacher's conditional branch, where the student started.
    """
    generator = torch.Generator().manual_seed(77)
    latents, picks = task.data.pick(CLIPS, generator)
    noise = torch.randn(latents.shape, generator=generator, dtype=torch.float32, device="cpu")
    condition = task.data.embed(task.data.captions(picks, generator))
    table: dict[str, dict[str, float]] = {f"{scale:g}": {} for scale in task.config.report_scales}
    with torch.autocast("cpu", torch.bfloat16, enabled=task.config.loop.precision == "bf16"):
        for time in TIMES:
            times = torch.full((CLIPS,), time, dtype=torch.float32, device="cpu")
            x = (1 - time) * latents + time * noise
            empty, full = (in_parts(task, task.teacher, x, times, condition, scale) for scale in (0.0, 1.0))
            for scale in task.config.report_scales:
                target = classifier_free_guidance(full, empty, scale)
                row = table[f"{scale:g}"]
                row[f"{time:g}"] = _relative(in_parts(task, student, x, times, condition, scale), target)
                row[f"{time:g} undistilled"] = _relative(full, target)
    return table


def in_parts(
    task: GuidanceDistillationTask,
    model: Teacher,
    x: Tensor,  # [N, C, T, h, w]
    times: Tensor,  # [N]
    condition: Condition,
    scale: float,
) -> Tensor:  # [N, C, T, h, w]
    """The velocity of many clips, as many at once as the training has memory for."""
    size = at_once(task.config)
    parts = [slice(start, start + size) for start in range(0, len(x), size)]
    texts = ({name: tensor[part] for name, tensor in condition.items()} for part in parts)
    return torch.cat([model.velocity(x[p], times[p], text, scale) for p, text in zip(parts, texts, strict=True)])


def _relative(value: Tensor, target: Tensor) -> float:
    return ((value - target).square().mean() / target.square().mean()).sqrt().item()
