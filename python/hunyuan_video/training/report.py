"""Reports of a run for people: a line, log.jsonl, TensorBoard, Weights & Biases."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import resource
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hunyuan_video.errors import UserError
from hunyuan_video.files import staged_file
from hunyuan_video.training.config import LoopConfig


class Report:
    """Collects the numbers of the steps and tells them every `log_every`. Only the first rank has one that speaks."""

    def __init__(self, loop: LoopConfig, folder: Path, first_step: int, line: Callable[[str], None], speaks: bool):
        self.loop, self.folder, self.line = loop, folder, line
        self.first_step, self.started = first_step, time.monotonic()
        self.sums: dict[str, list[float]] = {}
        self.samples = 0.0  # so far
        self.speaks = speaks
        self.board: Any = None
        self.run: Any = None
        if speaks:
            forget_later(folder, first_step)
            self.log = open(folder / "log.jsonl", "a")
            self.board = _tensorboard(folder, first_step) if loop.tensorboard else None
            self.run = _wandb(loop, folder) if loop.wandb else None

    def step(self, done: int, values: dict[str, float], counts: dict[str, float], last: bool = False) -> None:
        """values: averaged since the last line; of them "samples" is the size of a micro-batch, where it varies.
        counts: logged as they are. last: of the run."""
        size = values.get("samples", self.loop.micro_batch)
        self.samples += size * max(self.loop.micro_batches, 1)
        for key, value in values.items():
            self.sums.setdefault(key, []).append(value)
        if not self.speaks or (done % self.loop.log_every and done != self.loop.steps and not last):
            return
        means = {key: mean(some) for key, some in self.sums.items()}
        self.sums = {}
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = (done - self.first_step) / seconds
        left = (self.loop.steps - done) / rate
        if self.loop.max_seconds:
            left = max(min(left, self.loop.max_seconds - seconds), 0.0)
        speed = {"steps_per_s": rate, "samples_per_s": self.samples / seconds, "memory_gb": memory_gb()}
        self.record(done, {**speed, **counts, **means})
        numbers = " ".join(f"{key} {value:.4f}" for key, value in means.items() if key != "samples")
        skipped = "".join(f" {name} {counts[name]:.0f} |" for name in ("skipped", "unreadable") if counts.get(name))
        self.line(
            f"step {done}/{self.loop.steps} | {numbers} |{skipped} {speed['samples_per_s']:.2f} samples/s | "
            f"{duration(left)} left | {speed['memory_gb']:.2f} GB"
        )

    def evaluation(self, done: int, metrics: dict[str, float]) -> None:
        if self.speaks:
            self.record(done, {"evaluation": metrics})
            self.line(f"step {done} evaluation: " + json.dumps(_without_nan(metrics)))

    def failure(self, done: int, error: Exception) -> None:
        """An evaluation that failed: told, and logged with where."""
        text = " ".join(f"{type(error).__name__}: {error}".split())
        if self.speaks:
            where = "".join(traceback.format_exception(error))
            self.record(done, {"evaluation_failed": text, "traceback": where})
            self.line(f"step {done}: the evaluation failed ({text}); the weights are exported, the run goes on")

    def record(self, done: int, values: dict[str, Any]) -> None:
        self.log.write(json.dumps(_without_nan({"step": done, **values})) + "\n")
        self.log.flush()
        flat = {**values, **{f"evaluation/{key}": value for key, value in values.get("evaluation", {}).items()}}
        numbers = {key: value for key, value in flat.items() if isinstance(value, int | float)}
        try:
            if self.board is not None:
                for key, value in numbers.items():
                    self.board.add_scalar(key, value, done)
            if self.run is not None:
                self.run.log(numbers, step=done)
        except Exception as error:  # of a library, its server or its disk: not worth a run
            self.board = self.run = None
            self.line(f"note: TensorBoard or W&B failed ({error}); log.jsonl goes on without")

    def close(self) -> None:
        if self.speaks:
            self.log.close()
        with contextlib.suppress(Exception):
            if self.board is not None:
                self.board.close()
            if self.run is not None:
                self.run.finish()


def mean(values: list[float]) -> float:
    """Mean of the finite values, so one skipped step does not hide the others."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: null in their place."""
    return {
        key: _without_nan(value) if isinstance(value, dict)
        else None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }  # fmt: skip


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log.jsonl; without those that a kill or a bad disk damaged."""
    lines = []
    path = folder / "log.jsonl"
    for text in path.read_text(errors="replace").split("\n") if path.exists() else ():
        with contextlib.suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict) and type(line.get("step")) is int:
                lines.append(line)
    return lines


def forget_later(folder: Path, step: int) -> None:
    """Takes the lines after a step out of log.jsonl, and all but the last of equal kind at one step: a run that is
    continued from there writes them again.
    """
    path = folder / "log.jsonl"
    if not path.exists():
        return
    kinds = ("evaluation", "evaluation_failed")
    lines = [line for line in read_log(folder) if line["step"] <= step]
    kept = {(line["step"], *(kind in line for kind in kinds)): line for line in lines}
    content = "".join(json.dumps(line) + "\n" for line in kept.values()).encode()
    if content != path.read_bytes():
        with staged_file(path) as file:
            file.write(content)


def evaluated(folder: Path, step: int) -> bool:
    """True if the evaluation at `step` was logged; it is logged last, after the export."""
    return any(line["step"] == step and "evaluation" in line for line in read_log(folder))


def memory_gb() -> float:
    """Largest memory so far, of the GPU where there is one, else of the process; in 10^9 bytes."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def duration(seconds: float) -> str:
    """12s, 3m40s, 2h05m."""
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 1:
        return f"{seconds:.0f}s"
    return f"{int(minutes)}m{int(seconds) % 60:02d}s" if hours < 1 else f"{int(hours)}h{int(minutes) % 60:02d}m"


def _tensorboard(folder: Path, first_step: int) -> Any:
    try:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        raise UserError(
            "loop.tensorboard is on, but TensorBoard is missing; pip install tensorboard, or set it to false"
        ) from None
    return writer(log_dir=str(folder / "tensorboard"), purge_step=first_step + 1)


def _wandb(loop: LoopConfig, folder: Path) -> Any:
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        raise UserError("loop.wandb is set, but W&B is missing; pip install wandb, or leave it empty") from None
    return wandb.init(project=loop.wandb, name=folder.name, dir=str(folder), resume="allow")
