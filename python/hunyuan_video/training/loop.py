"""The one training loop: gradients of a step's batch, an update or a skip, the average, checkpoints, reports."""

from __future__ import annotations

import contextlib
import math
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hunyuan_video.distributed.ranks import Ranks, join_ranks
from hunyuan_video.errors import Print, UserError
from hunyuan_video.training.checkpoint import Checkpoints, reason, remedy
from hunyuan_video.training.config import LoopConfig, OptimizerConfig
from hunyuan_video.training.ema import EMA
from hunyuan_video.training.pace import Pace
from hunyuan_video.training.parallelize import Prepared, deal
from hunyuan_video.training.report import Report, evaluated
from hunyuan_video.training.resolved import check_resumed, keep, resolved
from hunyuan_video.training.skips import Skips
from hunyuan_video.training.task import Task


def train(
    task: Task,
    loop: LoopConfig,
    optimizer: OptimizerConfig,
    folder: Path,
    resume: bool,
    report: Print = print,
) -> dict:
    """Run to `loop.steps` or for `loop.max_seconds`; returns the last metrics. With `resume`, continues from the newest
    checkpoint in `folder`.

    A step's batch is drawn in `loop.micro_batches` parts from (seed, step, part) and dealt out to the ranks, so the
    number of ranks changes neither the data nor, up to rounding, the result.
    """
    torch.set_num_threads(loop.threads)
    try:
        trainer = Trainer(task, loop, optimizer, folder, report)
        try:
            return trainer.run(resume)
        finally:
            trainer.checkpoints.close()
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {reason(error)}; {remedy(error)}") from None


def check_graphs(loop: LoopConfig, ranks: Ranks) -> None:
    """UserError where a run cannot record CUDA graphs."""
    if loop.cuda_graphs and (loop.device != "cuda" or loop.micro_batches != 1 or ranks.count > 1 or loop.compile):
        raise UserError(
            "loop.cuda_graphs records the passes of one micro-batch on one GPU: set device to cuda, micro_batches to 1 "
            "and compile to false, or leave it out"
        )


class Trainer:
    """One run of one task on this rank."""

    def __init__(
        self,
        task: Task,
        loop: LoopConfig,
        optimizer: OptimizerConfig,
        folder: Path,
        report: Print = print,
    ):
        self.ranks = join_ranks(loop.device, loop.parallel)
        self.loop = deal(loop, self.ranks)
        check_graphs(self.loop, self.ranks)
        self.task, self.folder = task, folder
        self.line = report if self.ranks.first else _silent
        folder.mkdir(parents=True, exist_ok=True)
        self.pace = Pace(self.loop, self.ranks)
        self.main = Prepared(task.network, self.loop, optimizer, self.ranks, self.pace)
        if self.ranks.sequence > 1 and not self.main.splits_tokens:
            raise UserError("loop.parallel.sequence: only the transformer's tokens can be split; set it to 1")
        self.ema = EMA(task.network, optimizer.ema)
        self.auxiliary: dict[str, Prepared] = {
            name: auxiliary.prepare(self.loop, self.ranks, self.pace)
            for name, auxiliary in getattr(task, "auxiliary", {}).items()
        }
        self.checkpoints = Checkpoints(folder / "checkpoints", loop.keep, self.ranks, self.line)
        self.together = loop.parallel.fsdp or loop.parallel.sequence > 1  # every rank is needed to run the network
        self.settings = resolved(task, self.loop, optimizer)
        self.skips = Skips()
        self.poisoned: list[str] = []  # clips of this step whose loss was not finite

    def run(self, resume: bool) -> dict[str, float]:
        first = self.restore() if resume else self.start_anew()
        if self.ranks.first:
            keep(self.folder, self.settings)
        report = Report(self.loop, self.folder, first, self.line, self.ranks.first)
        metrics: dict[str, float] = {}
        if first and self.evaluates(first) and not self.ranks.agree(evaluated(self.folder, first)):
            metrics = self.evaluate(first, report)  # killed between the checkpoint and what follows it
        self.pace.start(self.pace.seconds)
        done = first
        while not self.pace.over(done):
            values = self.step(done)
            done += 1
            self.pace.tick()
            last = self.pace.over(done)
            counts = {"skipped": self.skips.total, **self.skips.counts(), "unreadable": self.unreadable}
            report.step(done, values, {**counts, "lr": self.main.rates.factor}, last)
            if done % self.loop.save_every == 0 or last:
                self.save(done)
            if self.evaluates(done):
                metrics = self.evaluate(done, report)
        if first > self.loop.steps:
            self.line(f"step {first} is beyond loop.steps = {self.loop.steps}: nothing to do")
        self.checkpoints.wait()
        report.close()
        self.ranks.meet()  # no rank goes on to read an export that the first is still writing
        self.tell_skips(first, done)
        return metrics

    def evaluates(self, done: int) -> bool:
        """True if weights are exported and evaluated after so many steps."""
        every = self.loop.sheet_every
        return done <= self.loop.steps and (self.pace.over(done) or bool(every and done % every == 0))

    @property
    def unreadable(self) -> int:
        return getattr(self.task, "unreadable", 0)

    def tell_skips(self, first: int, done: int) -> None:
        """Sums up the steps without an update. UserError where the last ones were among them."""
        if self.skips.total and first < done:
            self.line(f"steps without an update: {self.skips}")
        if self.skips.in_row and self.skips.diverged(done - first):
            good = done - self.skips.in_row
            raise UserError(
                f"{self.folder}: the last {self.skips.in_row} steps had a NaN or infinite loss or gradient: the run "
                f"has diverged, its weights are those of step {good}; lower optimizer.lr or look at the data"
            )

    def step(self, step: int) -> dict[str, float]:
        """All parts of a step's batch that are this rank's, and one update of the weights."""
        share = range(self.ranks.data_rank, self.loop.micro_batches, self.ranks.data_count)
        totals: dict[str, float] = {}
        self.poisoned = []
        self.task.network.train()
        for part in share:
            loss, parts = self.part_loss(step, part)
            number = loss.item()
            if not math.isfinite(number):
                self.poisoned += getattr(self.task, "clips_drawn", [])
            (loss / len(share)).backward()
            for key, value in {"loss": number, **parts}.items():
                totals[key] = totals.get(key, 0.0) + value / len(share)
        totals = dict(zip(totals, self.ranks.mean(list(totals.values())), strict=True))
        return {**totals, "grad": self.update(step, totals["loss"])}

    def part_loss(self, step: int, part: int) -> tuple[torch.Tensor, dict[str, float]]:
        seed = ((self.loop.seed * 1_000_003 + step) * self.loop.micro_batches + part) % 2**62
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002  (a task's libraries may draw from it)
        if hasattr(self.task, "begin"):
            self.task.begin(step, part, self.loop.micro_batches)
        with torch.autocast(self.loop.device, torch.bfloat16, enabled=self.loop.precision == "bf16"):
            return self.task.loss(step, torch.Generator().manual_seed(seed + 1))

    def update(self, step: int, loss: float) -> float:
        """An optimizer step, or none where the loss or the gradient of any rank is not finite; the gradient's norm."""
        norm = self.main.update(step) if math.isfinite(loss) else math.nan
        if math.isfinite(norm):
            self.ema.update(self.task.network, step)
            self.skips.good()
            return norm
        self.main.drop_gradients()
        self.skips.bad("gradient" if math.isfinite(loss) else "loss", self.ranks.collect(self.poisoned))
        if self.skips.total > self.loop.max_skipped:
            raise UserError(
                f"step {step}: {self.skips.total} steps had a NaN or infinite loss or gradient (loop.max_skipped = "
                f"{self.loop.max_skipped}): {self.skips}; lower optimizer.lr or look at the data, then continue with "
                "--resume"
            )
        return norm

    def start_anew(self) -> int:
        if self.ranks.agree(bool(self.checkpoints.steps())):
            raise UserError(
                f"{self.folder} already holds checkpoints; continue them with --resume or choose another output"
            )
        return 0

    def restore(self) -> int:
        """The step to continue with: weights, average, optimizers and the task's own state are back."""
        checkpoint = self.checkpoints.newest()
        if checkpoint is None:
            self.line(f"{self.checkpoints.folder}: no checkpoint to continue from; starting at step 0")
            return 0
        step, run = checkpoint
        check_resumed(self.folder, self.settings, self.line)
        saved = self.checkpoints.saved(step)
        # In checkpoints EMA weights are called "average", auxiliary networks "companion": names of the format.
        parts = {"": self.main, **{f"companion/{name}/": part for name, part in self.auxiliary.items()}}
        places: dict[str, torch.Tensor] = {f"average/{name}": w for name, w in self.ema.weights.items()}
        for prefix, part in parts.items():
            inside = {
                name.removeprefix(prefix): metadata for name, metadata in saved.items() if name.startswith(prefix)
            }
            places |= {prefix + name: place for name, place in part.places(inside).items()}
        extra = {name: torch.zeros(tuple(metadata.size), dtype=metadata.properties.dtype, device="cpu")
                 for name, metadata in saved.items() if name.startswith("extra/")}  # fmt: skip
        self.checkpoints.load(step, {**places, **extra})
        for prefix, part in parts.items():
            part.set({name.removeprefix(prefix): t for name, t in places.items() if name.startswith(prefix)})
        if hasattr(self.task, "load_extra_state"):
            tensors = {name.removeprefix("extra/"): tensor for name, tensor in extra.items()}
            self.task.load_extra_state({**run["extra"], **tensors})
        self.skips.load(run)
        self.pace.seconds = run.get("seconds", 0.0)
        self.line(f"resumed at step {step}")
        for key, value in self.data_position().items():
            if run["data"][key] != value:
                self.line(f"note: {key} was {run['data'][key]}, is {value}: the data will not repeat the run before")
        return step

    def data_position(self) -> dict[str, int]:
        """With the step, this decides what is drawn: all generators are seeded from it (see `part_loss`)."""
        return {"seed": self.loop.seed, "batch": self.loop.batch, "micro_batches": self.loop.micro_batches}

    def save(self, done: int) -> None:
        tensors = {f"average/{name}": weight for name, weight in self.ema.weights.items()} | self.main.state()
        for name, auxiliary in self.auxiliary.items():
            tensors |= {f"companion/{name}/{key}": tensor for key, tensor in auxiliary.state().items()}
        extra: dict[str, Any] = self.task.extra_state() if hasattr(self.task, "extra_state") else {}
        tensors |= {f"extra/{key}": value for key, value in extra.items() if isinstance(value, torch.Tensor)}
        plain = {key: value for key, value in extra.items() if not isinstance(value, torch.Tensor)}
        run = {**self.skips.state(), **self.pace.state(), "ranks": self.ranks.count, "torch": torch.__version__,
               "samples": done * self.loop.batch, "data": self.data_position(), "extra": plain}  # fmt: skip
        self.checkpoints.save(done, tensors, run)

    def evaluate(self, done: int, report: Report) -> dict[str, float]:
        """Export, then metrics of the averaged weights. The first rank writes; others help where they are needed.

        Metrics that cannot be had are told and cost nothing else.
        """
        self.checkpoints.wait()  # its copy of the run's state would stay in memory meanwhile
        if not (self.ranks.first or self.together):
            return {}
        network = self.task.network
        if self.pace.over(done):
            self.line(f"step {done}: export and evaluation")
        with self.ema.in_place_of(network), self.output_folder() as folder:
            network.eval()
            plain = self.main.gathered() if self.main.sharded else network
            if plain is not None and self.ranks.first:
                self.task.network = plain
                try:
                    self.task.export(folder / "export")
                finally:
                    self.task.network = network
            try:
                metrics = self.task.evaluate(done, folder)
            except Exception as error:
                report.failure(done, error)
                return {}
        report.evaluation(done, metrics)
        return metrics

    @contextlib.contextmanager
    def output_folder(self) -> Iterator[Path]:
        """The run's folder on the first rank; a passing one elsewhere, so that no two ranks write a file."""
        if self.ranks.first:
            yield self.folder
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def _silent(line: str) -> None:
    pass
