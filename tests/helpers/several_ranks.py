"""Runs functions in processes of their own, among them several gloo ranks, each with one thread."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable

import torch
import torch.distributed as dist

PATIENCE = 500  # seconds; on a busy machine ranks wait for each other many times
# Processes are forked from a server that has imported torch and done nothing else: importing torch takes longer than
# the test, and a fork of the test's own process cannot differentiate once an earlier test has used autograd's threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["torch", "torch.distributed", "pytest", "hunyuan_video.training.loop", "hunyuan_video.sampling.opening"]
)


def on_ranks(count: int, function: Callable, *args) -> list:
    """function(rank, *args) on each rank; what the ranks return (plain data), in order. Fails with a rank's traceback.

    function: of a module, so that a process finds it by its name.
    """
    with tempfile.TemporaryDirectory() as folder:
        pipes, processes = [], []
        for rank in range(count):
            here, there = PROCESSES.Pipe(duplex=False)
            process = PROCESSES.Process(target=_rank, args=(rank, count, f"{folder}/store", there, function, args))
            process.start()
            there.close()
            pipes.append(here)
            processes.append(process)
        results = []
        for here, process in zip(pipes, processes, strict=True):
            results.append(here.recv() if here.poll(PATIENCE) else f"no answer in {PATIENCE} s")
            process.join(10)
            process.kill()
    wrong = [result for result in results if isinstance(result, str)]
    assert not wrong, wrong[0]
    return [result[0] for result in results]


def _rank(rank: int, count: int, store: str, pipe, function: Callable, args: tuple) -> None:
    torch.set_num_threads(1)
    os.environ.pop("TORCHELASTIC_RUN_ID", None)
    try:
        dist.init_process_group("gloo", store=dist.FileStore(store, count), rank=rank, world_size=count)
        pipe.send((function(rank, *args),))
    except BaseException:
        pipe.send(traceback.format_exc())
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
