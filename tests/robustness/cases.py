"""A damaged file, the commands that read it, and the judgment of what they did."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from robustness.mutate import mutated
from robustness.targets import Target, by_format

SECONDS = 20  # of computing, for a command on a damaged small file
ROOM = 8 << 30  # bytes of addresses that a command may ask for beyond those of its start
PLAIN = re.compile(
    r"^(note: |seed \d+$|if this run is cut off|sampling|encoding|loading|decoding|evaluating|converting)"
)
TEMPORARY = re.compile(r"\.tmp\b|\.old\b|\.probe\b|\.lock\b")


@dataclass(frozen=True)
class Answer:
    """Exit code (negative: killed by a signal), lines of both streams, seconds of computing."""

    code: int
    out: str
    err: str
    seconds: float


Runner = Callable[[list[str]], Answer]


def target_of(seed: int) -> Target:
    """The file that a seed damages: formats take turns."""
    formats = list(by_format().values())
    targets = formats[seed % len(formats)]
    return targets[seed // len(formats) % len(targets)]


def damaged(seed: int, target: Target, content: bytes) -> bytes:
    return mutated(Path(target.path).name, content, random.Random(seed))


def faults_of(seed: int, world: Path, folder: Path, runner: Runner) -> list[str]:
    """Runs every command of a seed's target on its damaged file, in `folder`; a line for everything that is wrong."""
    target, faults = target_of(seed), []
    for number in range(len(target.commands)):
        shutil.rmtree(folder, ignore_errors=True)
        prepare(seed, target, world, folder)
        before = listing(folder)
        os.chdir(folder)
        answer = runner(target.argv(number))
        faults += [f"{target.commands[number]}: {fault}" for fault in judged(answer)]
        faults += [
            f"{target.commands[number]}: {fault}" for fault in left(folder, before, target, answer.code, answer.err)
        ]
    return faults


def prepare(seed: int, target: Target, world: Path, folder: Path) -> None:
    """A copy of what the commands need, with the damaged file."""
    for name in target.folders:
        shutil.copytree(world / name, folder / name)
    (folder / "out").mkdir()
    path = folder / target.path
    path.write_bytes(damaged(seed, target, path.read_bytes()))


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def judged(answer: Answer) -> list[str]:
    """Faults of an answer: exit 0, 1 or 2; a failure is one line, never a traceback or "this is a bug"."""
    faults = []
    if answer.code not in (0, 1, 2):
        faults.append(f"exit {answer.code}")
    for text in ("Traceback (most", "this is a bug"):
        if text in answer.err:
            line = next(line for line in answer.err.splitlines() if text in line)
            faults.append(line)
    lines = [line for line in answer.err.splitlines() if not PLAIN.match(line)]
    lines += ["hunyuan-video inspect"] if answer.code == 1 and "\n  not whole: " in answer.out else []  # its answer
    if len(lines) != (answer.code != 0) or not all(line.startswith("hunyuan-video ") for line in lines):
        faults.append(f"{len(lines)} lines for exit {answer.code}: {lines[:3]}")
    if answer.seconds > SECONDS:
        faults.append(f"{answer.seconds:.0f} s")
    return faults


def left(folder: Path, before: set[str], target: Target, code: int, err: str) -> list[str]:
    """Faults of what lies in the folder afterwards: after a failure nothing new, never a temporary file."""
    new = {name for name in listing(folder) - before if not name.startswith(target.changes or ("\0",))}
    if "the latents are safe" in err:  # in a state file that the line names
        new = {name for name in new if f"hunyuan-video decode {name} " not in err}
    if code == 0:
        new = {name for name in listing(folder) if TEMPORARY.search(Path(name).name)}
    lost = {name for name in before - listing(folder) if not name.startswith(target.changes or ("\0",))}
    faults = [f"left behind: {sorted(new)[:4]}"] if new else []
    return faults + ([f"gone: {sorted(lost)[:4]}"] if lost else [])


def in_process(argv: list[str]) -> Answer:
    """The command in this process, with its streams in files: what C libraries write counts too."""
    from hunyuan_video.cli import main

    began = time.process_time()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with streams_to(out.fileno(), err.fileno()), limited_memory():
            try:
                code = main(argv)
            except BaseException:
                traceback.print_exc()
                code = 99
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return Answer(code, *texts, time.process_time() - began)


@contextmanager
def streams_to(out: int, err: int):
    """File descriptors 1 and 2 lead elsewhere."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    python = sys.stdout, sys.stderr
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = python
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)


@contextmanager
def limited_memory():
    """A header that promises terabytes must be refused before it is believed."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def as_process(argv: list[str]) -> Answer:
    """The command line itself."""
    words = [sys.executable, "-m", "hunyuan_video", *argv]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    try:
        out, err = process.communicate(timeout=60 * SECONDS)  # on the clock: a busy machine is no fault
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
    return Answer(process.returncode, out, err, 0.0)
