"""`hunyuan-video train CONFIG --dry-run`: what a run would do, need and take, before it starts.

Nothing is trained and no large weight is made: costs are counted on the meta device (planning/cost.py), so the 13B
recipe can be planned on a laptop. Seconds come from a GPU's dense bf16 peak and an assumed share of it that is reached.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from hunyuan_video.checkpoints.hub import is_repository
from hunyuan_video.checkpoints.layout import BUNDLED
from hunyuan_video.data.buckets import Draw, Group, batch_size, tokens
from hunyuan_video.data.encoder import Encoder
from hunyuan_video.distributed.ranks import Ranks
from hunyuan_video.errors import UserError
from hunyuan_video.models import TransformerConfig
from hunyuan_video.models.grid import Grid
from hunyuan_video.planning.cost import cost_of, parameters_of
from hunyuan_video.planning.plan import GPUS, Machine, activation_bytes, memory_per_rank
from hunyuan_video.training.config import (
    EncodedFlowRun,
    LoopConfig,
    OptimizerConfig,
    StageConfig,
    StagesRun,
    VAEStagesRun,
)
from hunyuan_video.training.parallelize import deal
from hunyuan_video.training.tasks.flow_encoded import open_encoded
from hunyuan_video.training.tasks.flow_staged import grid_of, groups_of, stage_run
from hunyuan_video.training.tasks.staged_sources import open_data
from hunyuan_video.training.tasks.vae_stages import first_readable, open_clips
from hunyuan_video.training.tasks.without_data import Clip

FILES, CHECKPOINTS = ("vae", "text", "init_from", "teacher", "transformer", "data"), ("checkpoint", "encoders")


def missing(config: Any) -> dict[str, str]:
    """Settings of a run that name files which are not there -> their values. A name on the hub may be fetched."""
    named = {name: str(getattr(config, name, "")) for name in (*FILES, *CHECKPOINTS)}
    return {name: value for name, value in named.items() if value and not _is_there(value, name in CHECKPOINTS)}


def _is_there(name: str, on_hub: bool) -> bool:
    path = Path(name).expanduser()
    fetched = on_hub and is_repository(name) and not path.parent.exists()
    return path.exists() or name in BUNDLED or name.startswith("toyworld:") or fetched


def plan_stages(
    config: StagesRun, machine: Machine, report: Callable[[str], None] = print, *, with_data: bool = True
) -> None:
    """Prints model, memory and time of every stage, then draws a sample of each. Raises UserError on what is wrong.

    with_data: False where data or encoders are not there yet.
    """
    if not config.stages:
        raise UserError("stages: give at least one")
    model = TransformerConfig(**config.model)
    sizes, grid = parameters_of(model), _planned_grid(config, model)
    report(f"transformer: {sum(sizes.values()) / 1e6:,.1f} M parameters; {machine.count} x {machine.gpu}, assuming "
           f"{machine.mfu:.0%} of {GPUS[machine.gpu][0]} TFLOP/s")  # fmt: skip
    days = 0.0
    for index, stage in enumerate(config.stages):
        run = stage_run(config, index)
        where = f"stages[{index}]"
        loop = deal(run.loop, Ranks(0, machine.count, _sequence(run.loop, machine.count, where)))
        groups = groups_of(config, stage, grid, where)
        days += _plan_stage(stage, loop, run.optimizer, model, sizes, grid, groups, machine, report, where)
    report(f"all stages: {days:.3g} days")
    if not with_data:
        return
    check_data(config, model, grid)
    report("data: a sample of every stage was drawn and fits the model")


def _planned_grid(config: StagesRun, model: TransformerConfig) -> Grid:
    """The run's; as with the released VAE where the encoders are not there yet, as `check_data` then says."""
    try:
        return grid_of(config)
    except UserError:
        return Grid(patch=Grid.of(transformer=model).patch)


def _sequence(loop: LoopConfig, ranks: int, where: str) -> int:
    if ranks % loop.parallel.sequence:
        raise UserError(f"{where}: sequence = {loop.parallel.sequence} must divide the {ranks} ranks (--ranks)")
    return loop.parallel.sequence


def _plan_stage(
    stage: StageConfig,
    loop: LoopConfig,
    optimizer: OptimizerConfig,
    model: TransformerConfig,
    sizes: dict[str, int],
    grid: Grid,
    groups: list[Group],
    machine: Machine,
    report: Callable[[str], None],
    where: str,
) -> float:
    """The lines of one stage; its days."""
    parallel, total = loop.parallel, sum(group.share for group in groups)
    largest, flops, samples, seen = 0.0, 0.0, 0.0, 0.0
    for group in groups:
        for frames in sorted({bucket.frames for bucket in group.buckets}):
            same = [bucket for bucket in group.buckets if bucket.frames == frames]
            bucket = max(same, key=lambda bucket: tokens(bucket, grid))
            count = batch_size(bucket, grid, stage.max_tokens, stage.max_batch)
            cost = cost_of(model, bucket, grid, count)
            share = group.share / total * len(same) / len(group.buckets)
            flops += share * cost.flops_of_training(parallel.recompute, parallel.recompute_every)
            samples += share * count
            seen += share * count * tokens(bucket, grid)
            largest = max(largest, activation_bytes(cost, loop.parallel))
    parts = loop.micro_batches
    seconds = parts * flops / (machine.count * GPUS[machine.gpu][0] * 1e12 * machine.mfu)
    days = seconds * stage.steps / 86400
    memory = memory_per_rank(sizes, parallel, loop.precision, machine.count, muon=optimizer.muon_lr > 0)
    device = sum(memory[name] for name in memory if name != "host") + largest
    fits = "fits" if device <= 0.92e9 * GPUS[machine.gpu][1] else "DOES NOT FIT"
    shapes = [bucket for group in groups for bucket in group.buckets]
    table = ", ".join(f"{bucket} x {batch_size(bucket, grid, stage.max_tokens, stage.max_batch)}" for bucket in shapes)
    report(f"{where} {stage.name}: {stage.steps} steps of {parts} micro-batches, {parts * samples:.4g} samples, "
           f"{parts * seen / 1e6:.3g} M video tokens")  # fmt: skip
    report(f"  buckets: {table}")
    report(f"  {parts * flops / 1e15:.4g} PFLOP and {seconds:.3g} s a step, {days:.3g} days")
    numbers = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in memory.items() if value)
    report(f"  GB a rank: {numbers}, activations {largest / 1e9:.1f}: {device / 1e9:.1f} of {GPUS[machine.gpu][1]} "
           f"({fits})")  # fmt: skip
    return days


def check_data(config: StagesRun, model: TransformerConfig, grid: Grid) -> None:
    """Draws one sample of each stage's first bucket and holds it against the model. Raises UserError."""
    encoder = lru_cache(1)(partial(Encoder, config.encoders, "cpu"))
    for index, stage in enumerate(config.stages):
        buckets = [bucket for group in groups_of(config, stage, grid) for bucket in group.buckets]
        source = open_data(config, buckets, encoder)
        smallest = min(buckets, key=lambda bucket: tokens(bucket, grid))
        latents, condition, _ = source.samples(Draw(smallest, 0, 1), random.Random(0))
        check_sizes(f"stages[{index}]", model, latents.shape[1], condition["text"], condition["pooled_text"])


def check_sizes(where: str, model: TransformerConfig, channels: int, text: Tensor, pooled: Tensor) -> None:
    """UserError where the transformer takes other sizes than a sample has."""
    for key, wanted, size in (
        ("in_channels", model.in_channels, channels),
        ("text_dim", model.text_dim, text.shape[-1]),
        ("pooled_text_dim", model.pooled_text_dim, pooled.shape[-1]),
    ):
        if wanted != size:
            raise UserError(f"{where}: the data has {size} where model.{key} is {wanted}; set it to {size}")


def plan_encoded(config: EncodedFlowRun, report: Callable[[str], None] = print) -> list[Clip]:
    """Opens the data set, reads a clip of every bucket and holds it against the model. Raises UserError.

    Returns the sizes of those clips.
    """
    data, weights = open_encoded(config, Encoder(config.checkpoint, "cpu"))
    total, samples = sum(weights.values()), config.loop.steps * config.loop.batch
    sizes = []
    for name, weight in weights.items():
        clip = data.clip(name, 0, config.loop.seed)
        channels = clip.latents.shape[0]
        sizes.append(Clip(tuple(clip.latents.shape), data.description["text_length"]))
        if not config.init_from:
            model = TransformerConfig(**{**config.model, "in_channels": channels, "out_channels": channels})
            check_sizes(name, model, channels, clip.texts[0], clip.pooled)
        count = len(data.buckets[name])
        report(f"  {name}: {count} clips, each read {samples * weight / total / count:.3g} times")
    if data.unreadable:
        report(f"  {data.unreadable} of the first clips cannot be read")
    if not config.init_from:
        report(f"transformer: {sum(parameters_of(model).values()) / 1e6:,.1f} M parameters")
    return sizes


def plan_vae(config: VAEStagesRun, report: Callable[[str], None] = print) -> None:
    """Lists the clips and reads the first one that can be read. Raises UserError."""
    clips = open_clips(config)
    first_readable(clips, config.data)
    held, batch = config.held_out, sum(stage.steps * stage.batch for stage in config.stages)
    report(f"  {len(clips) - held} clips for training, {held} held out; {batch} samples in {config.loop.steps} steps")
