"""Interface of a training run to the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hunyuan_video.training.auxiliary import AuxiliaryNetwork


class Task(Protocol):
    """A network, a loss, reports and the exported result.

    The loop may shard `network` in place and run it on several ranks; a task only calls it.
    """

    network: nn.Module

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The mean loss of `loop.micro_batch` samples, and numbers to report.

        All randomness comes from `generator` or the global generators, which the loop seeds from (seed, step, part): so
        a resumed run repeats the unbroken one, and the number of ranks does not change the data.
        """
        ...

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        """Metrics of the averaged weights, which `network` holds meanwhile; pictures go below `folder`."""
        ...

    def export(self, folder: Path) -> None:
        """Writes the averaged weights, which `network` holds meanwhile, as a checkpoint for sampling."""
        ...


class ExtendedTask(Task, Protocol):
    """Optional parts of a task; the loop looks for each name."""

    auxiliary: dict[str, AuxiliaryNetwork]
    """Networks that are trained inside the loss, by name: sharded and checkpointed with the first."""

    unreadable: int
    """Samples passed over so far, said in the line."""

    clips_drawn: list[str]
    """Names of the clips of the last loss, for the count of those whose loss is not finite."""

    contents: str
    """What the data hold, in short: a run that is continued tells when it is no longer the same."""

    def begin(self, step: int, part: int, parts: int) -> None:
        """Called before the loss of part 0 <= part < parts of a step's batch: tells a task which share it draws."""
        ...

    def extra_state(self) -> dict[str, Any]:
        """Further state that must survive a restart: tensors (equal on all ranks) and values of JSON."""
        ...

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back what `extra_state` gave."""
        ...
