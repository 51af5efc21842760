"""Flow matching on the cached latents of a toyworld: `kind: flow`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hunyuan_video.errors import Print
from hunyuan_video.training.config import FlowRun
from hunyuan_video.training.tasks.caption_bank import CaptionBank, caption_shards
from hunyuan_video.training.tasks.captioned import CaptionedLatents
from hunyuan_video.training.tasks.flow import FlowTask, Sample


def cached_flow(config: FlowRun, folder: Path, report: Print = print) -> FlowTask:
    """The run as a task. Raises UserError."""
    data = CachedData(config, folder, report)
    task = FlowTask(config, data, report)
    data.clips.check(task.network)
    return task


class CachedData:
    """Random clips, captions in random sentence forms, replaced by the empty one with probability `text_dropout` so
    that classifier-free guidance has an unconditional branch; judged by how well samples follow prompts.
    """

    unreadable, varies, contents = 0, False, ""

    def __init__(self, config: FlowRun, folder: Path, report: Print = print):
        self.config = config
        self.clips = CaptionedLatents(
            config.world, config.vae, config.text, folder, report, bool(config.image_condition), config.loop.device
        )
        self.bank: CaptionBank | None = None
        if config.captions:
            embed = self.clips.embed
            paths = caption_shards(config.world, config.captions, embed, folder.parent / "latents", report)
            empty, dropout = embed([""]), config.text_dropout
            self.bank = CaptionBank(self.clips.latents, paths, config.captions, empty, dropout, config.loop.device)
        self.t_shift, self.t_shift_tokens = config.t_shift, config.t_shift_tokens
        self.names: list[str] = []
        self.channels: int | None = self.clips.shape[0]
        self.frames = {f"world.num_frames = {config.world.num_frames}": self.clips.shape[1]}

    def __str__(self) -> str:
        return f", {len(self.clips.latents)} clips of latents {self.clips.shape}"

    def begin(self, step: int, part: int, parts: int) -> None:
        """Nothing to prepare."""

    def draw(self, generator: torch.Generator) -> Sample:
        if self.bank is not None:
            return self.bank.draw(self.config.loop.micro_batch, generator)
        latents, picks = self.clips.pick(self.config.loop.micro_batch, generator)
        self.names = [f"clip {index}" for index in picks]
        return latents, lambda: self.clips.embed(self.clips.captions(picks, generator, self.config.text_dropout))

    @property
    def device(self) -> str:
        return "cpu" if self.bank is None else self.config.loop.device

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Nothing to take back: the generators of a step say what is drawn."""

    def evaluate(self, task: FlowTask, step: int, folder: Path) -> dict[str, float]:
        def sample(prompts: list[str], seed: int, first: Tensor | None = None) -> Tensor:
            both = self.clips.embed([""] * len(prompts) + prompts)
            return task.sample(both, self.clips.noise(len(prompts), seed), first)

        sheet = folder / "sheets" / f"step_{step:06d}.png"
        return self.clips.judge(sample, self.config.eval_prompts, task.at_once(self.config.loop.micro_batch), sheet)
