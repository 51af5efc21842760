"""Tasks of runs with sizes in the place of data, to count the memory of a step (training/step_plan.py).

Models are made by the tasks themselves; what they draw are tensors without values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hunyuan_video.checkpoints.locate import open_checkpoint
from hunyuan_video.errors import Print
from hunyuan_video.models import HunyuanVideoTransformer, VAEConfig
from hunyuan_video.models.grid import Grid
from hunyuan_video.training.config import VAERun, VAEStagesRun
from hunyuan_video.training.parts import read_text_json
from hunyuan_video.training.recorded import Recorded
from hunyuan_video.training.tasks.fields import Condition
from hunyuan_video.training.tasks.flow import FlowTask, Sample
from hunyuan_video.training.tasks.guidance_distillation import GuidanceDistillationTask
from hunyuan_video.training.tasks.step_distillation import StepDistillationTask
from hunyuan_video.training.tasks.vae import Passes, VAETask
from hunyuan_video.training.tasks.vae_stages import VAEStagesTask


@dataclass(frozen=True)
class Clip:
    """Sizes of a captioned clip: latents (C, T, h, w), positions of its text."""

    latents: tuple[int, ...]
    text: int


def task_without_data(config: Any, clips: list[Clip]) -> Any:
    """The run's task. clips: of its data set, for the kinds that have one. Raises UserError."""
    folder = Path(config.output)
    if config.kind == "vae":
        return _VAE(config, folder, _silent)
    if config.kind == "vae_stages":
        stages = tuple(replace(stage, tiled=0.0) for stage in config.stages)
        return _VAEStages(replace(config, stages=stages), folder, _silent)
    if config.kind == "flow_encoded":
        return _flow(config, max(clips, key=lambda clip: clip.latents[1:]))
    if config.kind == "flow":
        return _flow(config, _world_clip(config))
    data = CaptionSizes(_world_clip(config), config.teacher)
    if config.kind == "guidance_distillation":
        return GuidanceDistillationTask(config, folder, _silent, data=data)
    return StepDistillationTask(config, folder, _silent, data=data)


def steps_to_plan(config: Any) -> tuple[int, ...]:
    """Numbers of the steps to look at: the first, which makes the optimizer's state, then one of each phase."""
    last = config.loop.steps - 1
    if config.kind == "vae_stages":
        ends, done = [], 0
        for stage in config.stages:
            done += stage.steps
            ends.append(done - 1)
        return (0, *ends)
    return (0, 0, last) if config.kind == "vae" else (0, last)


def _world_clip(config: Any) -> Clip:
    """A clip of the run's world, by the sizes of its VAE and its text."""
    vae = open_checkpoint(config.vae, "vae").config
    assert isinstance(vae, VAEConfig)
    world, grid = config.world, replace(Grid.of(vae), patch=1)
    latents = grid.latent_shape(world.num_frames, world.size, world.size)
    return Clip(latents, read_text_json(Path(config.text))["text_length"])


def _flow(config: Any, clip: Clip) -> FlowTask:
    data = ClipSizes(config, clip)
    task = FlowTask(config, data, _silent)
    data.network = task.network
    return task


def condition_of(clip: Clip, count: int, config: Any) -> Condition:
    """The transformer's text arguments of `count` captions that fill their length."""
    return {
        "text": torch.zeros(count, clip.text, config.text_dim),
        "text_mask": torch.ones(count, clip.text, dtype=torch.bool),
        "pooled_text": torch.zeros(count, config.pooled_text_dim),
    }


class ClipSizes:
    """Sizes in the place of the data of a flow-matching task."""

    unreadable, varies, contents, device, t_shift_tokens, t_shift = 0, False, "", "cpu", 0, 1.0
    network: HunyuanVideoTransformer

    def __init__(self, config: Any, clip: Clip):
        self.count, self.clip = config.loop.micro_batch, clip
        self.channels: int | None = clip.latents[0]
        self.names: list[str] = []
        self.frames: dict[str, int] = {}

    def begin(self, step: int, part: int, parts: int) -> None:
        """Nothing to prepare."""

    def draw(self, generator: torch.Generator) -> Sample:
        sizes = self.network.config
        return torch.zeros(self.count, *self.clip.latents), lambda: condition_of(self.clip, self.count, sizes)

    def evaluate(self, task: FlowTask, step: int, folder: Path) -> dict[str, float]:
        return {}

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""


class CaptionSizes:
    """Sizes in the place of a distillation's `CaptionedLatents`."""

    def __init__(self, clip: Clip, teacher: str):
        self.clip, self.shape = clip, clip.latents
        self.sizes: Any = open_checkpoint(teacher, "transformer").config
        self.scenes = [None]

    def check(self, network: HunyuanVideoTransformer) -> None:
        """Sizes are those of the models."""

    def embed(self, prompts: list[str]) -> Condition:
        return condition_of(self.clip, len(prompts), self.sizes)

    def pick(self, count: int, generator: torch.Generator) -> tuple[Tensor, list[int]]:
        return torch.zeros(count, *self.shape), [0] * count

    def captions(self, picks: list[int], generator: torch.Generator, dropout: float = 0.0) -> list[str]:
        return [""] * len(picks)


class _VAE(VAETask):
    """Crops without values; the clips that lie in memory count."""

    config: VAERun

    def open(self, folder: Path, report: Print) -> None:
        config, world = self.config, self.config.world
        self.passes = [Recorded(Passes(self.network, given), False) for given in (False, True)]
        self.clips = torch.zeros(world.clips, world.num_frames, world.size, world.size, 3, dtype=torch.uint8)
        if config.train == "decoder":
            self.network.encoder.requires_grad_(False)
            self.network.quant_conv.requires_grad_(False)

    def batch(self, generator: torch.Generator, count: int, crop: int, frames: int) -> tuple[Tensor, Tensor]:
        latents = self.grid.latent_shape(frames, crop, crop)
        return torch.zeros(count, 3, frames, crop, crop), torch.empty(count, *latents)


class _VAEStages(VAEStagesTask):
    """Videos without values."""

    config: VAEStagesRun

    def open(self, folder: Path, report: Print) -> None:
        self.make_critics()
        self.unreadable = 0

    def batch(self, stage: Any, count: int, rng: Any) -> Tensor:
        return torch.zeros(count, 3, stage.frames, stage.size, stage.size)


def _silent(line: str) -> None:
    pass
