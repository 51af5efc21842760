"""Progressive training, `kind: stages` (paper section 4.6): images, mixed scales, short and long, low and high.

Every stage is a run of the one loop, in its own folder, from the averaged weights of the stage before. A step's batch
is a number of micro-batches, each of one bucket; the bucket sampler says which. The loss of a step is the mean over its
micro-batches, so that anchors and images weigh as their shares say, however many samples fit into one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hunyuan_video.checkpoints.configs import read_grid
from hunyuan_video.checkpoints.layout import checkpoint_folder
from hunyuan_video.checkpoints.locate import open_checkpoint
from hunyuan_video.data.buckets import Bucket, BucketSampler, Draw, Group, batch_size, make_buckets
from hunyuan_video.data.encoder import Encoder, encode_clips
from hunyuan_video.data.prefetch import Prefetcher
from hunyuan_video.data.toyworld import render
from hunyuan_video.data.toyworld.scene import AnyScene
from hunyuan_video.distributed.ranks import join_ranks
from hunyuan_video.errors import UserError
from hunyuan_video.evaluation.prompt_following import held_out_prompts, judge
from hunyuan_video.media.pixels import to_unit
from hunyuan_video.media.sheets import contact_sheet
from hunyuan_video.media.write import save_video
from hunyuan_video.models import TransformerConfig
from hunyuan_video.models.grid import Grid
from hunyuan_video.training.config import StageConfig, StagesRun, build
from hunyuan_video.training.loop import train
from hunyuan_video.training.parallelize import deal
from hunyuan_video.training.report import evaluated
from hunyuan_video.training.tasks.flow import FlowTask, Sample
from hunyuan_video.training.tasks.frames import frames_of
from hunyuan_video.training.tasks.staged_sources import Samples, embed, open_data

HELD_OUT_SEED = 4242


def execute(config: StagesRun, resume: bool, report: Callable[[str], None] = print) -> dict[str, float]:
    """All stages in order; with `resume`, finished ones are skipped. The last evaluation. Raises UserError."""
    if not config.stages:
        raise UserError("stages: give at least one")
    previous, metrics = config.init_from, {}
    for index, stage in enumerate(config.stages):
        run, folder = stage_run(config, index), stage_folder(config, index)
        ranks = join_ranks(run.loop.device, run.loop.parallel)
        run = replace(run, loop=deal(run.loop, ranks), init_from=previous)
        line = report if ranks.first else _silent
        if resume and finished(folder, stage.steps):
            line(f"== {folder.name}: finished")
        else:
            line(f"== {folder.name}")
            metrics = train(FlowTask(run, StagedData(run, stage), line), run.loop, run.optimizer, folder, resume, line)
        previous = str(folder / "export")
    return metrics


def stage_run(config: StagesRun, index: int) -> StagesRun:
    """The configuration as one stage changes it: loop and optimizer are the stage's."""
    stage, where = config.stages[index], f"stages[{index}]"
    if stage.steps < 1:
        raise UserError(f"{where}: steps must be at least 1, got {stage.steps}")
    loop = _changed(config.loop, stage.loop, f"{where}: loop")
    parts = max(loop.micro_batches, 1)
    loop = replace(loop, steps=stage.steps, batch=stage.max_batch * parts)
    return replace(config, loop=loop, optimizer=_changed(config.optimizer, stage.optimizer, f"{where}: optimizer"))


def _changed(base: Any, changes: dict, where: str) -> Any:
    checked = build(type(base), changes, where)
    return replace(base, **{name: getattr(checked, name) for name in changes})


def stage_folder(config: StagesRun, index: int) -> Path:
    return Path(config.output) / f"{index + 1:02d}_{config.stages[index].name or 'stage'}"


def finished(folder: Path, steps: int) -> bool:
    return (folder / "export").exists() and evaluated(folder, steps)


def grid_of(config: StagesRun) -> Grid:
    """Pixels per latent of the VAE that encodes the clips, and per token of the transformer. Raises UserError."""
    transformer = open_checkpoint(config.init_from, "transformer").config if config.init_from else None
    if not isinstance(transformer, TransformerConfig):
        transformer = TransformerConfig(**config.model)
    return replace(read_grid(checkpoint_folder(config.encoders)), patch=Grid.of(transformer=transformer).patch)


def groups_of(config: StagesRun, stage: StageConfig, grid: Grid, where: str = "stage") -> list[Group]:
    """The stage's anchors and, in a video stage, the images among them. Raises UserError on what does not fit."""
    if not 0 <= stage.images < 1:
        raise UserError(f"{where}: images must be a share of at least 0 and below 1, got {stage.images}")
    if stage.anchor_shares and len(stage.anchor_shares) != len(stage.anchors):
        raise UserError(f"{where}: {len(stage.anchor_shares)} anchor_shares for {len(stage.anchors)} anchors")
    if not stage.anchors or not stage.frames or not config.aspects:
        raise UserError(f"{where}: anchors, frames and aspects need at least one entry each")
    if config.image_condition and (grid.latent_frames(min(stage.frames)) < 2 or stage.images):
        least = grid.temporal + 1
        raise UserError(
            f"{where}: image-to-video is given the first latent frame; frames of {least} or more, images: 0"
        )
    shares = stage.anchor_shares or (1.0,) * len(stage.anchors)
    total = sum(shares)
    main = [
        Group(tuple(make_buckets(anchor, stage.frames, config.aspects, grid)), (1 - stage.images) * share / total)
        for anchor, share in zip(stage.anchors, shares, strict=True)
    ]
    anchors = stage.image_anchors or stage.anchors
    pictures = [Group(tuple(make_buckets(a, (1,), config.aspects, grid)), stage.images / len(anchors)) for a in anchors]
    return main + (pictures if stage.images > 0 else [])


class StagedData:
    """Micro-batches of a stage's buckets, planned step by step and read ahead; judged as `eval_prompts` samples."""

    channels: int | None = None
    t_shift_tokens, varies, device = 0, True, "cpu"
    frames: dict[str, int] = {}

    def __init__(self, config: StagesRun, stage: StageConfig):
        self.config, self.stage, self.t_shift = config, stage, stage.t_shift
        self.grid = grid_of(config)
        groups = groups_of(config, stage, self.grid)
        self.buckets = list(dict.fromkeys(bucket for group in groups for bucket in group.buckets))
        self.size_of = partial(batch_size, grid=self.grid, max_tokens=stage.max_tokens, largest=stage.max_batch)
        self.sampler = BucketSampler(groups, self.size_of, config.loop.seed)
        self.encoder = lru_cache(1)(partial(Encoder, config.encoders, config.loop.device))
        self.source = open_data(config, self.buckets, self.encoder)
        self.contents = self.source.contents
        self.batches = Prefetcher(self.read, config.workers)
        self.plans: dict[int, list[Draw]] = {}  # of this step and the next, which is read ahead
        self.positions: dict[int, dict[str, Any]] = {}  # in the data, after those steps
        self.place = (0, 0)  # step and part
        self.unreadable = 0  # clips passed over so far

    def __str__(self) -> str:
        return "; buckets " + ", ".join(f"{bucket} x {self.size_of(bucket)}" for bucket in self.buckets)

    def begin(self, step: int, part: int, parts: int) -> None:
        """Plans this step and the next when its first part is due."""
        self.place = (step, part)
        for due in range(step, min(step + 2, self.stage.steps)):
            if due not in self.plans:
                self.plans[due] = self.sampler.plan(due, parts)
                self.positions[due] = self.sampler.state()
        self.plans.pop(step - 1, None)
        self.positions.pop(step - 1, None)

    @property
    def names(self) -> list[str]:
        """Names of the clips drawn last, by their place in the bucket's order."""
        draw = self.plans[self.place[0]][self.place[1]]
        return [f"{draw.bucket} number {draw.start + index}" for index in range(draw.count)]

    def read(self, step: int, part: int) -> Samples:
        rng = random.Random(f"captions/{self.config.loop.seed}/{step}/{part}")
        return self.source.samples(self.plans[step][part], rng)

    def draw(self, generator: torch.Generator) -> Sample:
        latents, condition, passed = self.batches.get(*self.place, self.stage.steps - 1)
        self.unreadable += passed
        return latents, lambda: condition

    def state(self) -> dict[str, Any]:
        return {**self.positions[self.place[0]], "unreadable": self.unreadable}

    def load(self, state: dict[str, Any]) -> None:
        self.sampler.load(state)
        self.unreadable = state.get("unreadable", 0)

    @torch.no_grad()
    def evaluate(self, task: FlowTask, step: int, folder: Path) -> dict[str, float]:
        """A contact sheet, a video of the first sample, and for a toyworld how well the clips follow their prompts."""
        count, name = self.config.eval_prompts, f"step_{step:06d}"
        if count < 1:
            return {}
        bucket = make_buckets(self.stage.anchors[0], self.stage.frames[-1:], ("1:1",), self.grid)[0]
        world = self.config.data.partition(":")[2] if self.config.data.startswith("toyworld:") else "narrow"
        scenes, prompts = held_out_prompts(world, count, HELD_OUT_SEED)
        clips = self.sample(task, prompts, scenes, bucket, 100)
        contact_sheet(folder / "sheets" / f"{name}.png", list(clips[:16]), prompts[:16])
        if bucket.frames > 1:
            save_video(folder / "sheets" / f"{name}.mp4", side_by_side(clips[:4]).numpy(), fps=8)
        return judge(clips, scenes)

    def sample(self, task: FlowTask, prompts: list[str], scenes: list[AnyScene], bucket: Bucket, seed: int) -> Tensor:
        """Clips of a bucket, uint8 [N, F, H, W, 3]. In image-to-video the scenes' first frames are given."""
        vae, count = self.encoder().vae, len(prompts)
        shape = (1, task.network.config.in_channels, *self.grid.latent_shape(*bucket.shape)[1:])
        noise = torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(count)])
        both = embed(self.encoder(), [""] * count + prompts, video=bucket.frames > 1)
        first = None
        if self.config.image_condition:
            frames = render(scenes, num_frames=bucket.frames, size=(bucket.height, bucket.width))[:, :1]
            first = encode_clips(vae, to_unit(frames).to(next(vae.parameters())))
        latents = task.sample_in_parts(both, noise, first, task.at_once(self.size_of(bucket)))
        return frames_of(vae, latents)


def side_by_side(clips: Tensor) -> Tensor:  # uint8 [N, F, H, W, 3] -> [F, H, N * W, 3]
    return clips.permute(1, 2, 0, 3, 4).flatten(2, 3)


def _silent(line: str) -> None:
    pass
