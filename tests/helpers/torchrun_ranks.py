"""Command lines as ranks of one job: what `torchrun` does for its processes, without its seconds of start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch.distributed as dist

from helpers.several_ranks import PATIENCE, PROCESSES


class End(NamedTuple):
    code: int
    out: str
    err: str


def run_ranks(folder: Path, commands: Sequence[list[str]], first: Callable[[], None] | None = None) -> list[End]:
    """Runs `hunyuan-video COMMAND` of each rank in `folder`; codes and output, in order.

    first: called in each process before. When a rank fails the others get SIGTERM, as from torchrun.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ranks = range(len(commands))
    start = _start, (folder, len(commands), store.port, first)
    processes = [PROCESSES.Process(target=start[0], args=(*start[1], rank, commands[rank])) for rank in ranks]
    for process in processes:
        process.start()
    for _ in range(PATIENCE * 20):
        for process in processes:
            process.join(0.05 / len(processes))
        if any(process.exitcode for process in processes):
            for process in processes:
                process.terminate()
            break
        if all(process.exitcode == 0 for process in processes):
            break
    for process in processes:
        process.join(60)
        process.kill()
    texts = [tuple((folder / f"{rank}.{name}").read_text() for name in ("out", "err")) for rank in ranks]
    return [End(process.exitcode, *text) for process, text in zip(processes, texts, strict=True)]


def _start(
    folder: Path, count: int, port: int, first: Callable[[], None] | None, rank: int, command: list[str]
) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = open(1, "w", 1, closefd=False), open(2, "w", 1, closefd=False)
    here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    elastic = {"TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": True}
    os.environ.update({name: str(value) for name, value in {**here, **elastic}.items()})
    os.chdir(folder)
    from hunyuan_video.cli.entry import main

    if first is not None:
        first()
    sys.exit(main([*command, "--threads", "1"]))
