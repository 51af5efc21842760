"""Trains every size at every budget and collects the loss curves; runs that are in the table are not repeated."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hunyuan_video.errors import Print, UserError
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.grid import Grid
from hunyuan_video.training.config import VALIDATION_SEED, FlowRun
from hunyuan_video.training.loop import train
from hunyuan_video.training.report import read_log
from hunyuan_video.training.scaling.config import ScalingRun, flow_run
from hunyuan_video.training.scaling.curves import Curve, read_curves, write_curves
from hunyuan_video.training.scaling.laws import training_compute
from hunyuan_video.training.tasks.fields import Condition
from hunyuan_video.training.tasks.flow import FlowTask
from hunyuan_video.training.tasks.flow_cached import CachedData
from hunyuan_video.writers import one_writer


class ScalingTask(FlowTask):
    """Flow matching whose evaluation is the loss on clips that are not trained on, at fixed noise and timesteps."""

    def __init__(self, config: FlowRun, folder: Path, validation: int, report: Print = print):
        data = CachedData(config, folder, report)
        super().__init__(config, data, report)
        self.clips = data.clips
        clips = len(self.clips.latents)
        if clips <= validation:
            raise UserError(f"validation_clips {validation} leaves nothing of world.clips {clips}")
        self.held_out = range(clips - validation, clips)
        self.validation = self.clips.latents[-validation:].float()
        self.clips.latents = self.clips.latents[:-validation]

    @torch.no_grad()
    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        losses = []
        for start in range(0, len(self.validation), 64):
            latents, picks = self.validation[start : start + 64], list(self.held_out[start : start + 64])
            with self.autocast():
                loss = self.mean_loss(
                    latents, partial(self.text_of, picks, generator), generator, self.config.loop.micro_batch
                )
            losses.append(loss * len(latents))
        return {"validation_loss": sum(losses) / len(self.validation)}

    def text_of(self, picks: list[int], generator: torch.Generator) -> Condition:
        return self.clips.embed(self.clips.captions(picks, generator, self.config.text_dropout))

    def export(self, folder: Path) -> None:
        """Nothing: only the curve of the run is kept."""


def parameters_of(model: dict) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in HunyuanVideoTransformer(TransformerConfig(**model)).parameters())


def steps_for(budget: float, parameters: int, tokens_per_step: int) -> int:
    """Number of steps that `budget` PetaFLOP pay for under C = 6 N D."""
    return round(budget * 1e15 / (6 * parameters * tokens_per_step))


def read_curve(log: Path, run: str, parameters: int, tokens_per_step: int, config: FlowRun) -> Curve:
    """The validation losses of a finished run from its log."""
    lines = read_log(log.parent)
    losses = {line["step"]: line["evaluation"]["validation_loss"] for line in lines if "evaluation" in line}
    if not losses:
        raise UserError(f"{log}: no evaluation of the run succeeded; its lines say why")
    if None in losses.values():
        raise UserError(f"{log}: the validation loss is not finite; lower flow.optimizer.lr")
    steps = np.array(sorted(losses))
    tokens = steps * tokens_per_step / 1e9
    compute = np.array([training_compute(parameters / 1e9, t) for t in tokens])
    cooldown = steps > config.loop.steps * (1 - config.optimizer.decay)
    return Curve(run, parameters / 1e9, tokens, compute, np.array([losses[s] for s in steps.tolist()]), cooldown)


def run_study(study: ScalingRun, *, resume: bool, dry_run: bool, report: Print = print) -> Path:
    """Train what is missing; returns the table of curves. Raises UserError, or asks for --resume on a started study."""
    if dry_run:
        return _run_study(study, resume, dry_run, report)
    with one_writer(Path(study.output), "trains"):
        return _run_study(study, resume, dry_run, report)


def _run_study(study: ScalingRun, resume: bool, dry_run: bool, report: Print) -> Path:
    folder = Path(study.output)
    table = folder / "curves.parquet"
    curves = read_curves(table) if table.exists() else []
    if curves and not resume and not dry_run:
        raise UserError(f"{table} already holds {len(curves)} runs; continue it with --resume or choose another output")
    done = {curve.run for curve in curves}
    for size in range(len(study.sizes)):
        config = flow_run(study, size, 1)
        clip, channels = clip_tokens_and_channels(config)
        parameters = parameters_of({**config.model, "in_channels": channels, "out_channels": channels})
        tokens = clip * config.loop.batch
        for budget in study.budgets:
            steps = steps_for(budget, parameters, tokens)
            name = f"n{parameters / 1e6:.2f}M_c{budget:g}PF"
            if steps < study.min_steps:
                report(f"{name}: left out, it would be {steps} steps")
                continue
            report(f"{name}: {steps} steps, {steps * tokens / 1e6:.2f} M tokens{', done' if name in done else ''}")
            if name in done or dry_run:
                continue
            curves.append(_one_run(study, size, steps, folder / "runs" / name, parameters, tokens, report))
            write_curves(table, curves)
    return table


def clip_tokens_and_channels(config: FlowRun) -> tuple[int, int]:
    """Tokens of one clip as the paper counts data (patches of the latent video, no text), and latent channels."""
    vae = CausalVAE.from_pretrained(config.vae).config
    world, grid = config.world, Grid.of(vae, TransformerConfig(**config.model))
    return grid.tokens(world.num_frames, world.size, world.size), vae.latent_channels


def _one_run(
    study: ScalingRun,
    size: int,
    steps: int,
    folder: Path,
    parameters: int,
    tokens: int,
    report: Print,
) -> Curve:
    config = replace(flow_run(study, size, steps), output=str(folder))
    task = ScalingTask(config, Path(study.output) / "shared", study.validation_clips, lambda line: None)
    train(task, config.loop, config.optimizer, folder, (folder / "checkpoints").exists(), report)
    return read_curve(folder / "log.jsonl", folder.name, parameters, tokens, config)
