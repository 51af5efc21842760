"""Measurements in processes of their own: operations, peak memory, imports, cold start, other allocators."""

from __future__ import annotations

import ctypes.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cpu import vae_memory
from benchmarks.cpu.minis import SCALES, saved, transformer, vae
from benchmarks.cpu.tasks import COMPILE_ENVIRONMENT
from benchmarks.machine import ROOT
from benchmarks.results import OURS, PEER, Peer, Row, peer_of, raced, row_of
from benchmarks.timing import Times, race

TCMALLOC = "tcmalloc"
DEFAULT = f"{OURS}, as the command does without options (the few-step student: less work)"
HUGE_PAGES = "huge pages"
PROMPT = "a green star moves up on a gray background, the camera is static"


def environment(**extra: str) -> dict[str, str]:
    """This process's environment, with its import paths; modules are compiled once, as Python does unless told."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in (str(ROOT), *sys.path) if path), **extra}


def python(*words: str, limit: float | None = None, **extra: str) -> str:
    """Runs a Python command line and returns what it prints; CalledProcessError, with its messages, if it fails.

    limit: seconds until it is ended, with TimeoutExpired.
    """
    command = [sys.executable, *words]
    done = subprocess.run(command, env=environment(**extra), capture_output=True, text=True, timeout=limit)
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    return done.stdout


MEMORY_RUNS = (
    *(("VAE decode", which, side) for which in ("small", "large") for side in (OURS, PEER)),
    *(("pipeline", "small", side) for side in (OURS, PEER)),
)


def memory(scale_name: str, runs: Sequence[tuple[str, str, str]] = MEMORY_RUNS) -> Iterator[Row]:
    """Peak resident memory of each side alone, above that after its imports, weights included."""
    scale = SCALES[scale_name]
    rows: dict[tuple[str, str], Row] = {}
    with saved(transformer(scale.transformer), vae(scale.vae)) as folder:
        for task, which, side in runs:
            words = python("-m", "benchmarks.cpu.child", "peak", task, side, str(folder), scale_name, which)
            sizes, video = json.loads(words.splitlines()[-1]), getattr(scale, which)
            size = str(video) if task == "pipeline" else f"{video.frames}x{video.height}x{video.width}"
            row = rows.setdefault((task, size), Row(task, size, "bfloat16"))
            used = (sizes["peak"] - sizes["baseline"]) / 1e9
            if side == OURS:
                row.memory_gb = used
            else:
                row.peers[side] = Peer(memory_gb=used)
    yield from rows.values()


IMPORTS = {
    OURS: "from hunyuan_video import HunyuanVideoPipeline",
    PEER: "from diffusers import HunyuanVideoPipeline",
}


def imports(rounds: int = 4) -> Iterator[Row]:
    """Seconds of importing the package, and its pipeline, in a new process in which torch is already imported."""
    statements = {"import of the package": ("import hunyuan_video", "import diffusers")}
    statements["import of the pipeline"] = tuple(IMPORTS.values())
    for task, (ours, theirs) in statements.items():
        times: dict[str, list[float]] = {OURS: [], PEER: []}
        for _ in range(rounds):
            for name, statement in ((OURS, ours), (PEER, theirs)):
                times[name].append(_import_time(statement))
        counted = {name: Times.of(seconds[1:] or seconds) for name, seconds in times.items()}
        yield raced(task, "after import torch", "-", counted, {})


def _import_time(statement: str) -> float:
    code = f"import time, torch\nt = time.perf_counter()\n{statement}\nprint(time.perf_counter() - t)"
    return float(python("-c", code).splitlines()[-1])


def cold_start(rounds: int = 3, steps: int | None = None) -> Iterator[Row]:
    """From the start of a process to an mp4 of the bundled checkpoint: the command line, and a diffusers script."""
    with tempfile.TemporaryDirectory() as folder:
        limit = [] if steps is None else ["--num-inference-steps", str(steps)]
        same = ["--adapter", "none", *limit]  # the weights and steps that diffusers reads, not the few-step student's

        def ours() -> None:
            output = str(Path(folder) / "ours.mp4")
            python("-m", "hunyuan_video", "sample", PROMPT, "--seed", "3", "-o", output, *same)

        def theirs() -> None:
            python("-m", "benchmarks.cpu.cold_diffusers", PROMPT, str(Path(folder) / "theirs.mp4"), *limit[1:])

        def default() -> None:
            python("-m", "hunyuan_video", "sample", PROMPT, "--seed", "3", "-o", str(Path(folder) / "default.mp4"))

        runs = {OURS: ours, PEER: theirs, **({DEFAULT: default} if steps is None else {})}
        times, _ = race(runs, rounds=(rounds, rounds), warm_up=rounds > 1)
        difference = _frame_difference(Path(folder))
    size = f"bundled checkpoint to mp4{'' if steps is None else f', {steps} steps'}"
    yield raced("cold start", size, "float32", times, {OURS: difference})


def _frame_difference(folder: Path) -> float:
    """Mean absolute difference of the two files' pixels, in units of the full range (noise differs: see docs)."""
    import av
    import numpy as np

    clips = []
    for name in ("ours", "theirs"):
        with av.open(str(folder / f"{name}.mp4")) as file:
            clips.append(np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]))
    return float(np.abs(clips[0].astype(float) - clips[1]).mean() / 255)


def allocators() -> dict[str, dict[str, str]]:
    """Allocators that can be had here, as environment variables of a process."""
    allocators = {HUGE_PAGES: {"THP_MEM_ALLOC_ENABLE": "1"}}
    library = ctypes.util.find_library("tcmalloc_minimal") or ctypes.util.find_library("tcmalloc")
    if library:
        allocators[TCMALLOC] = {"LD_PRELOAD": library}  # the loader finds it by its name
    return allocators


def with_allocators(tasks: Sequence[str], scale_name: str) -> Iterator[Row]:
    """The whole comparison of some tasks of child.py again, in a process for each allocator."""
    for allocator, variables in allocators().items():
        yield from in_child(tasks, scale_name, allocator, variables)


def compiled(scale_name: str, seconds: float) -> Iterator[Row]:
    """diffusers under torch.compile; then, in what is left of the time, with tcmalloc besides."""
    end = time.perf_counter() + seconds
    for allocator, variables in (("", {}), (TCMALLOC, allocators().get(TCMALLOC))):
        if variables is not None and (left := end - time.perf_counter()) > 0:
            yield from in_child(["compiled"], scale_name, allocator, {**variables, **COMPILE_ENVIRONMENT}, left)


def in_child(
    tasks: Sequence[str], scale_name: str, allocator: str, variables: dict[str, str], limit: float | None = None
) -> Iterator[Row]:
    """Rows of a process of its own; those it had made where it took longer than the limit."""
    started, shown = time.perf_counter(), allocator or "the C library's allocator"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        try:
            python("-m", "benchmarks.cpu.child", "tasks", scale_name, str(file), *tasks, limit=limit, **variables)
        except subprocess.TimeoutExpired:
            print(f"  {shown}: ended after {limit:.0f} s; its later rows are missing", file=sys.stderr)
        except subprocess.CalledProcessError as error:
            print(f"  {shown}: failed with exit code {error.returncode}; rows are missing", file=sys.stderr)
        rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    print(f"  {shown}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    yield from (row_of({**content, "settings": allocator}) for content in rows)


def long_clip(budget: int = 10**9) -> Iterator[Row]:
    """Peak memory above the model of decoding 129 frames of 256x256 in a budget, and in one piece (vae_memory.py)."""
    row = Row("VAE decode in 1 GB", "129x256x256", "float32")
    for decoding in vae_memory.measure(129, 256, budget, "float32", [129]):
        if decoding["mode"] == "exact":
            row.memory_gb = decoding["peak"] / 1e9
        else:
            row.peers[f"{OURS}, mode=plain (more memory)"] = Peer(memory_gb=decoding["peak"] / 1e9)
    yield row


def operations() -> Iterator[Row]:
    """The kernel suite, test_kernels.py. Raises CalledProcessError if a test of it fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernels.json"
        command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", "--benchmark-quiet", "-q", "-rs"]
        subprocess.run([*command, f"--benchmark-json={file}"], cwd=ROOT, check=True)
        yield from operation_rows(json.loads(file.read_text(encoding="utf-8")))


def operation_rows(report: dict[str, Any]) -> Iterator[Row]:
    """Rows of the suite's report; errors are the largest absolute ones, against float64."""
    rows: dict[tuple[str, str, str], Row] = {}
    for entry in report["benchmarks"]:
        info, stats = entry["extra_info"], entry["stats"]
        key = info["op"], info["size"], info["dtype"]
        row = rows.setdefault(key, Row(*key))
        taken = peer_of(Times(1e3 * stats["median"], 1e3 * stats["min"], stats["rounds"]), info["max_abs_error"])
        if info["contender"] == OURS:
            row.take(taken)
            if info["unit"] and row.ms:
                row.rate, row.unit = info["work"] / row.ms / 1e9, info["unit"]
        else:
            row.peers[info["contender"]] = taken
    yield from rows.values()
