"""Training checkpoints: one file per step, written to a temporary name and renamed, the last few kept.

Everything random in a run is derived from (seed, step), so weights, averages, optimizer state and the step number are
the whole state and a resumed run repeats the unbroken one bit for bit on the same machine and thread count.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import torch


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"step_{step:07d}.pt"


def save(folder: Path, step: int, state: dict, keep: int) -> Path:
    """Write `state` for `step`, atomically; drop all but the newest `keep` checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    path = checkpoint_path(folder, step)
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        torch.save({"step": step, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    for old in sorted(folder.glob("step_*.pt"))[:-keep]:
        old.unlink()
    return path


def load_latest(folder: Path, report=print) -> dict | None:
    """The newest readable checkpoint; a damaged one is reported and the one before it is taken."""
    for path in sorted(folder.glob("step_*.pt"), reverse=True):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            report(f"{path}: unreadable ({str(error).splitlines()[0]}); trying the checkpoint before it")
    return None
