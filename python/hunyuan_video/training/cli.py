"""`hunyuan-video train CONFIG`: one command for every kind of run."""

from __future__ import annotations

import importlib
from pathlib import Path

from hunyuan_video.training.config import SequenceRun, load_config
from hunyuan_video.training.loop import train

TASKS = {"vae": ("hunyuan_video.training.vae", "VAETask"), "flow": ("hunyuan_video.training.flow", "FlowTask")}


def run(config_path: str | Path, *, resume: bool = False, dry_run: bool = False, overrides: tuple[str, ...] = (), report=print) -> None:
    """Train what the YAML file says. A sequence runs its files in order, each relative to the sequence's folder."""
    config = load_config(config_path, overrides)
    if isinstance(config, SequenceRun):
        for name in config.runs:
            report(f"== {name}")
            run(Path(config_path).parent / name, resume=resume, dry_run=dry_run, overrides=overrides, report=report)
        return
    if dry_run:
        report(f"{config_path}: a valid {config.kind} run, output {config.output}")
        return
    folder = Path(config.output)
    if config.kind in TASKS:
        module, name = TASKS[config.kind]
        task = getattr(importlib.import_module(module), name)(config, folder, report)
        train(task, config.loop, config.optimizer, folder, resume, report)
    else:
        importlib.import_module(f"hunyuan_video.training.{config.kind}").execute(config, report)
