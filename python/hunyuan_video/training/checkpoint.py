"""Checkpoints of a run: torch.distributed.checkpoint in a background thread, atomic, verified, the last few kept.

A checkpoint is a folder step_0000100: one data file for each rank and `.metadata` (torch.distributed.checkpoint: any
number of ranks can read it), `run.json` (where the run stands) and `files.json` (length and CRC-32 of every file). It
is written as step_0000100.tmp and renamed once all ranks have finished, so a name without .tmp is a whole checkpoint.
The metadata is a pickle: continue only runs that you trust.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import warnings
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from hunyuan_video.distributed.ranks import Ranks
from hunyuan_video.errors import Print, UserError
from hunyuan_video.files import replace_folder, write_json

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, this user's share of it, a limit on files
FAILURES = (UserError, OSError, RuntimeError, ValueError, KeyError, EOFError, CheckpointException)


class _Writer(dcp.FileSystemWriter):
    """A write that fails is raised as it is: torch's zip writer covers it with a complaint of its own."""

    def write_data(self, plan: Any, planner: Any) -> Any:
        try:
            return super().write_data(plan, planner)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


class Checkpoints:
    """Saves to and loads from one folder. All ranks call every method, at the same step."""

    def __init__(self, folder: Path, keep: int, ranks: Ranks, report: Print = print):
        self.folder, self.keep, self.ranks, self.report = folder, max(keep, 1), ranks, report
        # A run of one process needs no process group; saying so in a thread cannot be silenced there.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        # The thread must not share a group with the training: two threads would answer each other's messages.
        self.group = dist.new_group(backend="gloo") if ranks.count > 1 else None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.pending: tuple[int, Future] | None = None

    def path(self, step: int) -> Path:
        return self.folder / f"step_{step:07d}"

    def steps(self) -> list[int]:
        """Steps of the checkpoints there, newest first; without those set aside as damaged."""
        names = [path.name for path in self.folder.glob("step_*")]
        return sorted((int(name[5:]) for name in names if name[5:].isdigit()), reverse=True)

    def save(self, step: int, tensors: dict[str, Tensor], run: dict[str, Any]) -> None:
        """Copies the tensors and returns; a thread writes them. First waits for the save before, and its failure."""
        self.wait()
        staged = {name: _copy(tensor) for name, tensor in tensors.items()}
        self.pending = step, self.thread.submit(self._write, step, staged, {**run, "step": step})

    def wait(self) -> None:
        """Until the last save is on disk. Raises UserError where it failed; the checkpoints before it are untouched."""
        if self.pending is None:
            return
        step, future = self.pending
        self.pending = None
        try:
            future.result()
        except FAILURES as error:
            if self.ranks.first:
                shutil.rmtree(self.path(step).with_suffix(".tmp"), ignore_errors=True)
            raise UserError(f"{self.path(step)}: {reason(error)}; {self._safe()}; {remedy(error)}") from None

    def close(self) -> None:
        """Lets a save that is under way finish; `wait` tells whether it did."""
        self.thread.shutdown()

    def _safe(self) -> str:
        newest = self.steps()[:1]
        return f"step {newest[0]} is safe" if newest else "nothing is saved yet"

    def _write(self, step: int, tensors: dict[str, Tensor], run: dict[str, Any]) -> None:
        temporary, path = self.path(step).with_suffix(".tmp"), self.path(step)
        if self.ranks.first:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        dcp.save(tensors, storage_writer=_Writer(temporary), process_group=self.group, no_dist=self.group is None)
        tensors.clear()
        gc.collect()  # dcp's planner is a circle of objects that would keep the copies
        if not self.ranks.first:
            return
        write_json(temporary / "run.json", run)
        files = {file.name: _fingerprint(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / "files.json", files)
        replace_folder(temporary, path)
        self._rotate()

    def _rotate(self) -> None:
        """Deletes what is older than the last `keep` whole ones. Sums are compared on resume; here, lengths are."""
        whole = []
        for step in self.steps():
            if damage := _damage(self.path(step), sums=False):
                self._set_aside(step, damage)
            else:
                whole.append(step)
        for old in whole[self.keep :]:
            shutil.rmtree(self.path(old), ignore_errors=True)

    def _set_aside(self, step: int, damage: str) -> None:
        """Gives a damaged checkpoint a name that is no checkpoint's, so that it never counts as one."""
        path = self.path(step)
        aside = path.with_suffix(".damaged")
        try:
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(path, aside)
            place = f"set aside as {aside.name}"
        except OSError as error:
            place = f"it cannot be set aside ({error.strerror})"
        self.report(f"{path}: {damage}; {place}, the checkpoint before it counts")

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """Step and run.json of the newest checkpoint that is whole and undamaged; others are named and passed over."""
        newest = None
        if self.ranks.first:
            for left in self.folder.glob("step_*.tmp"):
                self.report(f"{left}: half written, ignored")
                shutil.rmtree(left, ignore_errors=True)
            for step in self.steps():
                damage = _damage(self.path(step))
                if damage is None:
                    newest = step, json.loads((self.path(step) / "run.json").read_text())
                    break
                self._set_aside(step, damage)
        return self.ranks.agree(newest)

    def saved(self, step: int) -> dict[str, TensorStorageMetadata]:
        """Tensors of a checkpoint: name -> size and dtype."""
        metadata = dcp.FileSystemReader(self.path(step)).read_metadata().state_dict_metadata
        return cast(dict[str, TensorStorageMetadata], metadata)

    def load(self, step: int, places: dict[str, Tensor]) -> None:
        """Fills tensors in place, sharded as they are now. Raises UserError naming a tensor that does not fit."""
        saved = self.saved(step)
        for name, place in places.items():
            if name not in saved:
                raise UserError(f"{self.path(step)}: no tensor {name!r}; the run's model or optimizer has changed")
            if tuple(saved[name].size) != tuple(place.shape):
                sizes = f"{list(saved[name].size)} there, {list(place.shape)} now"
                raise UserError(f"{self.path(step)}: {name!r} is {sizes}; the run's model has changed")
        reader = dcp.FileSystemReader(self.path(step))
        dcp.load(places, storage_reader=reader, process_group=self.group, no_dist=self.group is None)


@torch.no_grad()
def _copy(tensor: Tensor) -> Tensor:
    """A snapshot in host memory that training does not change; this rank's part of a sharded tensor."""
    if isinstance(tensor, DTensor):
        part = tensor.to_local().detach().to("cpu", copy=True)
        return DTensor.from_local(
            part, _cpu_mesh(tensor), tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
        )
    return tensor.detach().to("cpu", copy=True)


def _cpu_mesh(tensor: DTensor) -> Any:
    mesh = tensor.device_mesh
    return mesh if mesh.device_type == "cpu" else dist.init_device_mesh("cpu", tuple(mesh.shape))


def _fingerprint(path: Path) -> list[int]:
    """Length and CRC-32."""
    crc, length = 0, 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            crc, length = zlib.crc32(block, crc), length + len(block)
    return [length, crc]


def _damage(path: Path, *, sums: bool = True) -> str | None:
    """Damage of a checkpoint's files, or None. sums: whether they are read whole."""
    try:
        files = json.loads((path / "files.json").read_text())
        for name, expected in files.items():
            size = (path / name).stat().st_size
            if size != expected[0]:
                return f"{name} has {size} bytes instead of {expected[0]}"
            if sums and _fingerprint(path / name) != expected:
                return f"{name} is damaged (checksum)"
    except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        return f"unreadable ({error})"
    return None


def _first(error: BaseException) -> BaseException:
    """The failure of the rank that failed first, as the system reported it."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return error.__cause__ if isinstance(error, UserError) and error.__cause__ else error


def reason(error: BaseException) -> str:
    """Why something could not be written or read, in one line."""
    error = _first(error)
    if isinstance(error, OSError):
        return "the disk is full" if error.errno in FULL else error.strerror or str(error)
    return " ".join(str(error).split()) or type(error).__name__


def remedy(error: BaseException) -> str:
    """Remedy for an error while a checkpoint is written."""
    full = getattr(_first(error), "errno", None) in FULL
    return f"{'make room' if full else 'put that right'} and continue with --resume"
