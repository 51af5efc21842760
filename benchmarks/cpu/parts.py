"""The parts of `make bench`, and what this machine lacks for them."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks import machine
from benchmarks.cpu import processes, tasks
from benchmarks.cpu.minis import SCALES
from benchmarks.results import Row


@dataclass(frozen=True)
class Part:
    """seconds: about, on two cores of a Xeon with AMX. peer: it needs diffusers."""

    run: Callable[[argparse.Namespace], Iterator[Row]]
    seconds: int
    peer: bool = True


COMPILE_SECONDS = 235
PARTS = {
    "operations": Part(lambda args: processes.operations(), 120, peer=False),
    "imports": Part(lambda args: processes.imports(rounds=2 if args.quick else 4), 20),
    "calls": Part(lambda args: tasks.calls(SCALES[args.scale]), 10),
    "cold": Part(lambda args: processes.cold_start(*((1, 1) if args.quick else (3, None))), 45),
    "blocks": Part(lambda args: tasks.blocks(SCALES[args.scale]), 20),
    "dit": Part(lambda args: tasks.dit(SCALES[args.scale]), 65),
    "vae": Part(lambda args: tasks.vae_decode(SCALES[args.scale]), 50),
    "pipeline": Part(lambda args: tasks.pipeline(SCALES[args.scale]), 80),
    "memory": Part(lambda args: processes.memory(args.scale), 60),
    "clip": Part(lambda args: processes.long_clip(), 50, peer=False),
    "allocators": Part(lambda args: processes.with_allocators(("dit", "vae", "pipeline"), args.scale), 110),
    "compile": Part(lambda args: processes.compiled(args.scale, COMPILE_SECONDS), COMPILE_SECONDS),
}


def missing_peers() -> Iterator[str]:
    """A line for each that this machine lacks: what is left out, and how to get it."""
    if machine.version("diffusers") is None:
        yield (
            "diffusers is not installed, so blocks, models, pipeline and start-up are left out; get it with: "
            f"{sys.executable} -m pip install diffusers transformers accelerate"
        )
    if processes.TCMALLOC not in processes.allocators():
        yield "tcmalloc is not installed, so the peer does not run with it; on Debian: apt install libtcmalloc-minimal4"
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        yield "torch.compile needs a C++ compiler, so the peer does not run under it; on Debian: apt install g++"
