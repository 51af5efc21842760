"""Measurements in a process of their own: other settings, or the peak of its memory.

    python -m benchmarks.cpu.child tasks SCALE FILE TASK...              FILE holds the rows so far, after each of them
    python -m benchmarks.cpu.child peak TASK SIDE FOLDER SCALE VIDEO     prints bytes: {"baseline": ..., "peak": ...}

A process that is ended keeps what it has found. The baseline of a peak is what is resident after the imports; the peak
includes the weights.
"""

from __future__ import annotations

import gc
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.cpu import minis, tasks
from benchmarks.results import OURS, Row, as_object, write

_LEAN = {"dtypes": ("bfloat16",), "lean": True}
TASKS: dict[str, Callable[[minis.Scale], Iterator[Row]]] = {
    "dit": partial(tasks.dit, **_LEAN),
    "vae": partial(tasks.vae_decode, **_LEAN),
    "pipeline": partial(tasks.pipeline, **_LEAN),
    "compiled": tasks.compiled,
}
PEAK_DTYPE = "bfloat16"


def run_tasks(scale_name: str, file: str, *names: str) -> None:
    rows = []
    for name in names:
        for row in TASKS[name](minis.SCALES[scale_name]):
            rows.append(as_object(row))
            write(Path(file), json.dumps(rows))


def status(key: str) -> int:
    """Bytes of a line of /proc/self/status: VmRSS, resident now; VmHWM, the most that ever was."""
    match = re.search(rf"^{key}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    if match is None:
        raise RuntimeError(f"this system does not tell {key}; peak memory is measured on Linux only")
    return 1024 * int(match[1])


def load_libraries(side: str) -> None:
    """Import the libraries of a side before it loads weights."""
    if side != OURS:
        from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoPipeline  # noqa: F401
    torch.nn.functional.conv3d(torch.zeros(1, 1, 3, 3, 3), torch.zeros(1, 1, 3, 3, 3))
    gc.collect()


@torch.no_grad()
def run_peak(task: str, side: str, folder: str, scale_name: str, which: str) -> None:
    """One side at one task, alone."""
    load_libraries(side)
    baseline = status("VmRSS")
    scale, root = minis.SCALES[scale_name], Path(folder)
    video = getattr(scale, which)
    if task == "VAE decode":
        model = minis.load(root, "vae", side, PEAK_DTYPE)
        tasks.vae_run(model, side, minis.latents(scale, video).to(getattr(torch, PEAK_DTYPE)))()
    elif side == OURS:
        from hunyuan_video import HunyuanVideoPipeline

        pipe = HunyuanVideoPipeline(*(minis.load(root, kind, side, PEAK_DTYPE) for kind in ("transformer", "vae")))
        tasks.pipeline_runs(scale, pipe, None, video, PEAK_DTYPE)[side]()
    else:
        tasks.pipeline_runs(scale, None, tasks.diffusers_pipeline(root, PEAK_DTYPE), video, PEAK_DTYPE)[side]()
    print(json.dumps({"baseline": baseline, "peak": status("VmHWM")}))


if __name__ == "__main__":
    {"tasks": run_tasks, "peak": run_peak}[sys.argv[1]](*sys.argv[2:])
