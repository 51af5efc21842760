"""What `python benchmarks/gpu.py` runs before the table: build, tests that need a GPU, compute-sanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

KEPT_CHARACTERS = 4000  # of a stage's output


@dataclass(frozen=True)
class Stage:
    summary: str
    seconds: float
    failed: bool
    output: str = ""


def build(root: Path) -> Stage:
    """The extension with CUDA, in place, for this Python; quick where the objects of these sources exist."""
    return run((sys.executable, "setup.py", "build_ext", "--inplace"), root, 400, {"HUNYUAN_CUDA": "ON"})


def checks(root: Path, seconds: float, sanitizer: bool) -> dict[str, Stage]:
    """GPU tests and the tools of compute-sanitizer, all at once: nothing is timed yet."""
    tools = ("memcheck", "racecheck", "initcheck") if sanitizer else ()
    with ThreadPoolExecutor(1 + len(tools)) as pool:
        running = {"tests": pool.submit(gpu_tests, root, seconds)}
        running |= {tool: pool.submit(sanitize, root, tool, seconds) for tool in tools}
        return {name: future.result() for name, future in running.items()}


def gpu_tests(root: Path, seconds: float) -> Stage:
    """The tests marked gpu."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--tb=short", "--no-header", "tests/gpu"]
    return run(command, root, seconds)


def sanitize(root: Path, tool: str, seconds: float) -> Stage:
    """compute-sanitizer over every kernel at small sizes."""
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if sanitizer is None:
        return Stage("skipped: there is no compute-sanitizer on PATH", 0.0, failed=False)
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "benchmarks.gpu_suite.smoke"]
    if tool == "memcheck":
        command[3:3] = ["--leak-check", "no"]
    return run(command, root, seconds)


def variables_for(root: Path) -> dict[str, str]:
    """The environment of a child process that imports the packages of the repository."""
    paths = [str(root), str(root / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run(command: Sequence[str], root: Path, seconds: float, environment: Mapping[str, str] | None = None) -> Stage:
    """One command in the repository; its summary is its last line of output, or that it took too long."""
    started = time.monotonic()
    variables = variables_for(root) | dict(environment or {})
    try:
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        done = subprocess.run(command, cwd=root, env=variables, timeout=seconds, **pipes)  # type: ignore[call-overload]
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
        return Stage(f"failed: not done after {seconds:.0f} s", seconds, True, output[-KEPT_CHARACTERS:])
    lines = done.stdout.strip().splitlines() or ["no output"]
    summary = lines[-1][:300] if done.returncode == 0 else f"failed with status {done.returncode}: {lines[-1][:300]}"
    return Stage(summary, time.monotonic() - started, done.returncode != 0, done.stdout[-KEPT_CHARACTERS:])
