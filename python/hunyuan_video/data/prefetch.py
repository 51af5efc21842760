"""The next step's batches are read by threads while the network trains on this one's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

Batch = TypeVar("Batch")


class Prefetcher(Generic[Batch]):
    """Batches by (step, part); after each, the same part of the next step is read by a thread.

    read(step, part) must depend on nothing else, so that a resumed run reads what an unbroken one does. What it raises
    is raised by the `get` that asks for the batch. workers: threads; 0 reads when asked.
    """

    def __init__(self, read: Callable[[int, int], Batch], workers: int):
        self.read = read
        device = torch.cuda.current_device() if torch.cuda.is_initialized() else None  # every thread has its own
        self.pool = ThreadPoolExecutor(workers, initializer=_use, initargs=(device,)) if workers > 0 else None
        self.waiting: dict[tuple[int, int], Future[Batch]] = {}

    def get(self, step: int, part: int, last: int) -> Batch:
        """The batch now; `last` is the step after which nothing is read ahead."""
        if self.pool is None:
            return self.read(step, part)
        future = self.waiting.pop((step, part), None) or self.pool.submit(self.read, step, part)
        if step < last:
            self.waiting[step + 1, part] = self.pool.submit(self.read, step + 1, part)
        return future.result()


def _use(device: int | None) -> None:
    if device is not None:
        torch.cuda.set_device(device)
