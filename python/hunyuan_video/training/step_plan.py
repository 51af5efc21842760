"""Memory of a training step before a run starts: its own task and step, run without values.

Weights come from the headers of their files, clips and captions from their sizes (planning/training_step.py counts).
Evaluations, text encoders and the VAE of a data set are not in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.distributed.ranks import Ranks
from hunyuan_video.planning.budget import host_limit, shown
from hunyuan_video.planning.plan import GPUS, Machine
from hunyuan_video.planning.run_plan import PROCESS
from hunyuan_video.planning.training_step import StepBytes, rehearsed_steps
from hunyuan_video.training.config import LoopConfig
from hunyuan_video.training.loop import Trainer
from hunyuan_video.training.parallelize import deal
from hunyuan_video.training.tasks.without_data import Clip, steps_to_plan, task_without_data

ROOM = 0.92  # of a GPU's memory, as for stages


def plan_step(config: Any, machine: Machine | None, report: Callable[[str], None], clips: Iterable[Clip] = ()) -> None:
    """Prints what a step of a run holds at its largest moment, whether it fits, and what would make it fit.

    machine: GPUs to plan for; None: this computer. clips: of a data set, (C, T, h, w, length of text) of each bucket.
    Raises UserError where a file that the run names cannot be used.
    """
    count = machine.count if machine is not None else 1
    device, limit = _limit(machine)
    bytes_of = step_bytes(config, machine, list(clips))
    counted = bytes_of(config.loop)
    need = _need(counted, config.loop.parallel, count, machine)
    fits = limit is None or need <= limit
    where = device if limit is None else f"{shown(limit)} of {device}"
    report(
        f"  memory of a step: {shown(need)} at most, {shown(counted.standing)} of it weights, optimizer and average, "
        f"of {where} ({'fits' if fits else 'DOES NOT FIT'})"
    )
    if not fits:
        standing = replace(counted, peak=counted.standing)
        if _need(standing, config.loop.parallel, count, machine) > (limit or 0):
            report(
                "    what stands between steps is too much already: use fsdp on more GPUs, an adapter, or more memory"
            )
        else:
            report(f"    {_remedy(config.loop, bytes_of, count, machine, limit or 0)}")


def _limit(machine: Machine | None) -> tuple[str, int | None]:
    if machine is None:
        return "this computer", host_limit()
    return f"{machine.count} x {machine.gpu}", int(ROOM * 1e9 * GPUS[machine.gpu][1])


def _need(counted: StepBytes, parallel: ParallelConfig, count: int, machine: Machine | None) -> int:
    """Bytes on one rank; FSDP deals out what stands, sequence parallelism what passes."""
    standing = counted.standing // (count if parallel.fsdp else 1)
    return standing + counted.passing // parallel.sequence + (PROCESS if machine is None else 0)


def _remedy(loop: LoopConfig, bytes_of: Callable, count: int, machine: Machine | None, limit: int) -> str:
    """The first change of the loop that makes the step fit."""
    again = replace(loop.parallel, recompute="blocks")
    single = max(loop.batch, 1)
    for words, changed in (
        ("loop.parallel.recompute=blocks", replace(loop, parallel=again)),
        (f"loop.micro_batches={single}", replace(loop, micro_batches=single)),
        (f"loop.parallel.recompute=blocks and loop.micro_batches={single}",
         replace(loop, parallel=again, micro_batches=single)),
    ):  # fmt: skip
        need = _need(bytes_of(changed), changed.parallel, count, machine)
        if need <= limit:
            return f"with {words} it takes {shown(need)} and fits"
    return "recompute=blocks and more micro-batches are not enough; more memory, fsdp or an adapter may be"


def step_bytes(config: Any, machine: Machine | None, clips: list[Clip]) -> Callable[[LoopConfig], StepBytes]:
    """loop -> bytes of a step of one rank that has all weights."""
    count = machine.count if machine is not None else 1
    device = config.loop.device if machine is None else "cuda"

    def bytes_of(loop: LoopConfig) -> StepBytes:
        dealt = deal(loop, Ranks(0, count, loop.parallel.sequence))
        parts = min(dealt.micro_batches // (count // loop.parallel.sequence), 2)
        plain = replace(loop.parallel, fsdp=False, sequence=1, offload_optimizer=False)
        small = replace(dealt, device="cpu", cuda_graphs=False, compile=False, parallel=plain,
                        micro_batches=parts, batch=parts * dealt.micro_batch)  # fmt: skip
        changed = replace(config, loop=small)
        with tempfile.TemporaryDirectory() as folder:

            def make() -> Callable[[int], object]:
                trainer = Trainer(task_without_data(changed, clips), small, changed.optimizer, Path(folder), _silent)
                trainer.checkpoints.close()
                return trainer.step

            return rehearsed_steps(make, device, steps_to_plan(config))

    return bytes_of


def _silent(line: str) -> None:
    pass
