"""How close the one-pass student is to two passes: velocity error by scale and time, prompt following, as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hunyuan_video.flow import classifier_free_guidance

if TYPE_CHECKING:
    from hunyuan_video.training.guidance_distillation import GuidanceDistillationTask
    from hunyuan_video.training.teacher import Teacher

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
CLIPS = 32


def guidance_report(task: GuidanceDistillationTask, student: Teacher, path: Path) -> dict:
    """Writes and returns {"velocity_error": {w: {t: ..}}, "prompt_following": {w: {student | teacher: table}}}."""
    config = task.config
    report: dict = {"velocity_error": velocity_errors(task, student), "prompt_following": {}}
    for scale in config.report_scales if config.report_prompts else ():
        rows = {}
        for name, model in (("student", student), ("teacher", task.teacher)):
            rows[name] = task.data.judge(
                lambda prompts, seed, model=model, scale=scale: task.sample(model, scale, prompts, seed),
                config.report_prompts,
            )
        report["prompt_following"][f"{scale:g}"] = rows
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(temporary, path)
    return report


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
