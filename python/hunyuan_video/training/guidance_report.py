"""How close the one-pass student is to two passes: velocity error by scale and time, prompt following, as JSON."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hunyuan_video.checkpoints.atomic import write_json
from hunyuan_video.data.toyworld import analyse, hits
from hunyuan_video.evaluation.prompt_following import paired_difference
from hunyuan_video.flow import classifier_free_guidance

if TYPE_CHECKING:
    from hunyuan_video.training.guidance_distillation import GuidanceDistillationTask
    from hunyuan_video.training.teacher import Teacher

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
        found = {
            name: followed(task, model, scale) for name, model in (("student", student), ("teacher", task.teacher))
        }
        report["prompt_following"][f"{scale:g}"] = compare(**found)
        write_json(path, report)
    return report


def followed(task: GuidanceDistillationTask, model: Teacher, scale: float) -> Hits:
    """What each clip of `report_prompts` prompts shows of what was asked; the same seeds for every model."""
    sample = functools.partial(task.sample, model, scale)
    clips, scenes, _ = task.data.samples(sample, task.config.report_prompts)
    return hits([analyse(clip) for clip in clips], scenes)


def compare(student: Hits, teacher: Hits) -> dict[str, dict]:
    """Fractions of both, and "difference": student - teacher over pairs of clips with its standard error."""
    asked = [name for name, found in student.items() if found]
    return {
        "student": {name: sum(student[name]) / len(student[name]) for name in asked},
        "teacher": {name: sum(teacher[name]) / len(teacher[name]) for name in asked},
        "difference": {name: paired_difference(student[name], teacher[name]) for name in asked},
    }


@torch.no_grad()
def velocity_errors(task: GuidanceDistillationTask, student: Teacher) -> dict[str, dict[str, float]]:
    """Relative error |student - teacher| / |teacher| (root mean squares over clips) at every scale and time.

    "undistilled": the error of the teacher's conditional branch, where the student started.
    """
    generator = torch.Generator().manual_seed(77)
    latents, picks = task.data.pick(CLIPS, generator)
    noise = torch.randn(latents.shape, generator=generator)
    condition = task.data.embed(task.data.captions(picks, generator))
    table: dict[str, dict[str, float]] = {f"{scale:g}": {} for scale in task.config.report_scales}
    with torch.autocast("cpu", torch.bfloat16, enabled=task.config.loop.precision == "bf16"):
        for time in TIMES:
            times = torch.full((CLIPS,), time)
            x = (1 - time) * latents + time * noise
            empty, full = (task.teacher.velocity(x, times, condition, scale) for scale in (0.0, 1.0))
            for scale in task.config.report_scales:
                target = classifier_free_guidance(full, empty, scale)
                row = table[f"{scale:g}"]
                row[f"{time:g}"] = _relative(student.velocity(x, times, condition, scale), target)
                row[f"{time:g} undistilled"] = _relative(full, target)
    return table


def _relative(value: Tensor, target: Tensor) -> float:
    return ((value - target).square().mean() / target.square().mean()).sqrt().item()
