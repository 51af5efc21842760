"""`hunyuan-video train CONFIG`: one command for every kind of run."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hunyuan_video.distributed.ranks import join_ranks
from hunyuan_video.errors import UserError
from hunyuan_video.forks import begin_work
from hunyuan_video.training.config import (
    BundleRun,
    EncodeRun,
    SequenceRun,
    TextRun,
    as_yaml,
    build,
    load_config,
    recipe_path,
)
from hunyuan_video.training.loop import train
from hunyuan_video.training.outcome import closing_lines
from hunyuan_video.training.parallelize import deal
from hunyuan_video.training.run_list import check_files, groups_of, side_by_side, train_command
from hunyuan_video.writers import one_writer

TASKS = {
    "vae": ("hunyuan_video.training.tasks.vae", "VAETask"),
    "vae_stages": ("hunyuan_video.training.tasks.vae_stages", "VAEStagesTask"),
    "flow": ("hunyuan_video.training.tasks.flow_cached", "cached_flow"),
    "flow_encoded": ("hunyuan_video.training.tasks.flow_encoded", "encoded_flow"),
    "guidance_distillation": ("hunyuan_video.training.tasks.guidance_distillation", "GuidanceDistillationTask"),
    "step_distillation": ("hunyuan_video.training.tasks.step_distillation", "StepDistillationTask"),
}


def run(
    config_path: str | Path,
    *,
    resume: bool = False,
    dry_run: bool = False,
    overrides: tuple[str, ...] = (),
    report: Callable[[str], None] = print,
    gpu: str = "",
    ranks: int = 0,
) -> dict[str, float]:
    """Train what the YAML file says; the last evaluation. A sequence runs its files (training/run_list.py).

    resume: continue from the newest checkpoints; finished parts are skipped. dry_run: only validate, print the run
    with all its defaults, and its plan for `ranks` GPUs of a kind (0: as many as torchrun started; "": H100, or this
    computer for a run on the CPU).
    Raises UserError.
    """
    config, path = load_config(config_path, overrides), recipe_path(config_path)
    if dry_run and not isinstance(config, SequenceRun):
        show(config, path, report, gpu, ranks)
        return {}
    return start(config, path, resume=resume, dry_run=dry_run, report=report, gpu=gpu, ranks=ranks)


def start(
    config: Any, path: Path, *, resume: bool = False, report: Callable[[str], None] = print, **options: Any
) -> dict[str, float]:
    """Train what a configuration says. path: its file, beside which a sequence's files are; options: of `run`."""
    begin_work()
    if isinstance(config, SequenceRun):
        run_one = partial(run, resume=resume, report=report, **options)
        run_sequence(config, path, run_one, resume, options.get("dry_run", False), report)
        return {}
    if os.environ.get("RANK", "0") != "0" or isinstance(config, EncodeRun):  # encoding claims its folder itself
        return _start(config, resume, report)
    with one_writer(Path(config.output), "trains", beside=isinstance(config, BundleRun)):
        return _start(config, resume, report)


def _start(config: Any, resume: bool, report: Callable[[str], None]) -> dict[str, float]:
    """A run of one configuration, in a folder that is this process's."""
    if isinstance(config, TextRun):
        run_text(config, resume, report)
    elif config.kind == "stages":
        stages = importlib.import_module("hunyuan_video.training.tasks.flow_staged")
        metrics = stages.execute(config, resume or restarted(), report)
        if os.environ.get("RANK", "0") == "0":
            for text in closing_lines(stages.stage_folder(config, len(config.stages) - 1), config.encoders):
                report(text)
        return metrics
    elif isinstance(config, EncodeRun):
        run_encode(config, report)
    elif isinstance(config, BundleRun):
        importlib.import_module("hunyuan_video.training.bundle").execute(config, report)
    else:
        module, name = TASKS[config.kind]
        folder = Path(config.output)
        ranks = join_ranks(config.loop.device, config.loop.parallel)
        config = replace(config, loop=deal(config.loop, ranks))
        line = report if ranks.first else lambda text: None
        task = getattr(importlib.import_module(module), name)(config, folder, line)
        metrics = train(task, config.loop, config.optimizer, folder, resume or restarted(), line)
        for text in closing_lines(folder, getattr(config, "checkpoint", "")):
            line(text)
        return metrics
    return {}


def show(config: Any, path: Path, report: Callable[[str], None], gpu: str, ranks: int) -> None:
    """Print a dry run: the run with all its defaults, its plan or data, and what is missing."""
    for line in as_yaml(config).splitlines():
        report(line)
    plan = importlib.import_module("hunyuan_video.training.dry_run")
    machine, missing, clips = plan.Machine(gpu or "H100", ranks), plan.missing(config), []
    if isinstance(config, TextRun):
        text_run(config)
    elif config.kind == "stages":
        plan.plan_stages(config, machine, report, with_data=not missing)
    elif config.kind in ("flow_encoded", "vae_stages") and "data" not in missing and "checkpoint" not in missing:
        clips = (plan.plan_encoded if config.kind == "flow_encoded" else plan.plan_vae)(config, report)
    report(f"{path}: a valid {config.kind} run, output {config.output}")
    for name, needed in missing.items():
        report(f"  {name}: {needed} is not there yet")
    if config.kind in TASKS and not missing:
        on_gpu = gpu or ranks or config.loop.device == "cuda"
        step = importlib.import_module("hunyuan_video.training.step_plan")
        step.plan_step(config, machine if on_gpu else None, report, clips or ())


def run_sequence(
    config: SequenceRun,
    path: Path,
    run_one: Callable[[Path], object],
    resume: bool,
    dry_run: bool,
    report: Callable[[str], None],
) -> None:
    """A group of one in this process, larger ones in processes of their own."""
    groups = groups_of(config, str(path))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and any(len(chains) > 1 for chains in groups):
        raise UserError(f"{path}: it starts processes of its own; run it without torchrun")
    check_files(path)
    made: set[str] = set()  # outputs of the runs before, which a dry run does not make
    for chains in groups:
        report("== " + " | ".join(", ".join(chain) for chain in chains))
        if len(chains) > 1 and not dry_run:
            side_by_side(chains, path.parent, train_command(resume), report)
            continue
        for name in (name for chain in chains for name in chain):
            waits = _waits_for(path.parent / name, made) if dry_run else ""
            if waits:
                report(f"{path.parent / name}: valid; it is planned when {waits} is there")
            else:
                run_one(path.parent / name)


def _waits_for(path: Path, made: set[str]) -> str:
    """The folder that an earlier run of a sequence will make and this one is planned from, if that is not there yet."""
    config = load_config(path)
    needs = [str(getattr(config, name, "")) for name in ("checkpoint", "data", "encoders")]
    made.add(str(getattr(config, "output", "")))
    return next((need for need in needs if need in made and not Path(need).exists()), "")


def restarted() -> bool:
    """True if torchrun has started this process again after one of its ranks was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def text_run(config: TextRun) -> partial:
    """The training of both text encoders, ready to be called. Raises UserError for a wrong world or settings."""
    from hunyuan_video.data.toyworld import WORLDS
    from hunyuan_video.training.text import TextTrainingConfig, train_text

    if config.world not in WORLDS:
        raise UserError(f"world must be one of {', '.join(WORLDS)}, got {config.world!r}")
    settings = build(TextTrainingConfig, config.settings, "settings")
    return partial(train_text, WORLDS[config.world], config.output, settings)


def run_text(config: TextRun, resume: bool, report: Callable[[str], None]) -> None:
    """Both text encoders; minutes long, so it is repeated whole unless it had finished."""
    train_text = text_run(config)
    if resume and (Path(config.output) / "text.json").exists():
        report(f"{config.output}: text encoders are already there")
        return
    report(str(train_text(log=report)["evaluation"]))
    report(f"text encoders: {config.output}; a training takes them as `text: {config.output}`, as tiny/flow does")


def run_encode(config: EncodeRun, report: Callable[[str], None]) -> None:
    """Encode what is not encoded yet."""
    from hunyuan_video.data.encode import EncodeRequest, encode

    request = EncodeRequest(
        config.source, Path(config.output), config.buckets, config.checkpoint, config.clips, config.captions,
        config.fps, config.seed, batch=config.batch, workers=config.workers, device=config.device,
    )  # fmt: skip
    report(f"{config.output}: {encode(request, report)}")
