"""Clips of a toyworld drawn by several processes, in order."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import torch

from hunyuan_video.data.toyworld import render
from hunyuan_video.data.world import WorldConfig, scenes_of

Result = TypeVar("Result")
AHEAD = 2  # pieces that are made ready for each process: what has not been asked for yet stays small


def draw(config: WorldConfig, start: int, count: int) -> np.ndarray:
    """Clips [start, start + count): uint8 [count, F, H, W, 3]."""
    return render(scenes_of(config, start, count), num_frames=config.num_frames, size=config.size).numpy()


def drawn(config: WorldConfig, starts: Sequence[int], count: int) -> Iterator[np.ndarray]:
    """`draw` of each start, up to the last clip; the next are made meanwhile where `config.workers` is above 1."""
    return in_order(draw, [(config, start, min(count, config.clips - start)) for start in starts], config.workers)


def in_order(make: Callable[..., Result], calls: Sequence[tuple], workers: int) -> Iterator[Result]:
    """make(*call) of each call. make must be importable: it runs in other processes if there are several workers."""
    if workers <= 1:
        yield from (make(*call) for call in calls)
        return
    pool, waiting = _pool(workers), deque[Future[Result]]()
    for call in calls:
        waiting.append(pool.submit(make, *call))
        if len(waiting) > AHEAD * workers:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@functools.cache
def _pool(workers: int) -> ProcessPoolExecutor:
    """One for the whole process: starting it takes as long as thousands of clips."""
    return ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,))
