"""Stages of `python benchmarks/gpu.py` before the table: build, tests that need a GPU, compute-sanitizer."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TOOLKIT = "/usr/local/cuda/bin"  # where nvcc and compute-sanitizer are when they are not on PATH
TEST_PROCESSES = 4
# A process group for the process and its children, which end together.
GROUP: dict[str, Any] = dict(process_group=0) if sys.version_info >= (3, 11) else dict(preexec_fn=os.setpgrp)

# Every tensor is an allocation of its own, of which the tools know the end and whether it has been written.
UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


@dataclass(frozen=True)
class Stage:
    summary: str
    seconds: float
    failed: bool
    output: str = ""


def build(root: Path) -> Stage:
    """The extension with CUDA, in place, for this Python; quick where the objects of these sources exist."""
    # Architectures of a file side by side: the longest file decides how long many cores take.
    variables = {"HUNYUAN_CUDA": "ON", "NVCC_APPEND_FLAGS": "--threads 3"}
    return run((sys.executable, "setup.py", "build_ext", "--inplace"), root, 400, variables)


def checks(root: Path, seconds: float, sanitizer: bool) -> dict[str, Stage]:
    """GPU tests and the tools of compute-sanitizer, all at once: nothing is timed yet."""
    tools = ("memcheck", "racecheck", "initcheck") if sanitizer else ()
    with ThreadPoolExecutor(1 + len(tools)) as pool:
        running = {"tests": pool.submit(gpu_tests, root, seconds)}
        running |= {tool: pool.submit(sanitize, root, tool, seconds) for tool in tools}
        return {name: future.result() for name, future in running.items()}


def gpu_tests(root: Path, seconds: float) -> Stage:
    """The tests marked gpu; with pytest-xdist in processes that are replaced (tests/gpu/conftest.py)."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "--tb=short", "--no-header", "tests/gpu"]
    if find_spec("xdist") is not None:
        command += ["-n", str(TEST_PROCESSES), "--max-worker-restart", "50"]
    return run(command, root, seconds)


def sanitize(root: Path, tool: str, seconds: float) -> Stage:
    """compute-sanitizer over every kernel at small sizes."""
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=TOOLKIT)
    if sanitizer is None:
        return Stage("skipped: there is no compute-sanitizer on PATH", 0.0, failed=False)
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "benchmarks.gpu.smoke"]
    if tool == "memcheck":
        command[3:3] = ["--leak-check", "no"]
    return case_by_case(command, root, seconds)


def case_by_case(command: Sequence[str], root: Path, seconds: float) -> Stage:
    """smoke.py, started again behind each case that ended its process: one broken kernel does not hide the others."""
    started, first, runs = time.monotonic(), 0, []
    while True:
        left = seconds - (time.monotonic() - started)
        runs.append(run([*command, str(first)], root, left, UNCACHED))
        begun = re.findall(r"^case (\d+) of (\d+)", runs[-1].output, flags=re.M)
        first = int(begun[-1][0]) + 1 if begun else first
        if not begun or first >= int(begun[-1][1]) or time.monotonic() - started >= seconds:
            break
    wrong = [run for run in runs if run.failed]
    output = "\n".join(run.output for run in wrong)
    return Stage((wrong or runs)[0].summary, time.monotonic() - started, bool(wrong), output)


def variables_for(root: Path) -> dict[str, str]:
    """The environment of a child process that imports the packages of the repository."""
    paths = [str(root), str(root / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
    tools = os.pathsep.join(filter(None, (os.environ.get("PATH"), TOOLKIT)))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PATH": tools}


def run(command: Sequence[str], root: Path, seconds: float, environment: Mapping[str, str] | None = None) -> Stage:
    """One command in the repository; its summary is its last line of output, or that it took too long."""
    started = time.monotonic()
    variables = variables_for(root) | dict(environment or {})
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(command, cwd=root, env=variables, stdout=log, stderr=subprocess.STDOUT, **GROUP)
        try:
            status = process.wait(timeout=max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end(process)
        log.seek(0)
        output = log.read()
    if status is None:
        return Stage(f"failed: not done after {seconds:.0f} s", time.monotonic() - started, True, output)
    lines = output.strip().splitlines() or ["no output"]
    summary = lines[-1][:300] if status == 0 else f"failed with status {status}: {lines[-1][:300]}"
    return Stage(summary, time.monotonic() - started, status != 0, output)


def end(process: subprocess.Popen[Any], patience: float = 20.0) -> None:
    """Kills what is left of a process's group: a child with a kernel that hangs would slow down all that follows."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # the driver may not let go of it at once
        process.wait(timeout=patience)
