"""Sequences of runs: one after the other, and side by side where they need nothing of each other.

A run of a group side by side is a process of its own, with its share of the cores; its lines carry its name. Which
runs are side by side changes no result: `loop.threads` says how many threads compute, not the share.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hunyuan_video.errors import UserError
from hunyuan_video.training.config import SequenceRun, load_config

Chains = list[list[str]]  # side by side; each is a list of configurations, one after the other
Command = Callable[[Path], list[str]]  # configuration -> the process that runs it


def groups_of(config: SequenceRun, where: str) -> list[Chains]:
    """The groups of a sequence in order; a plain name is a group of one. Raises UserError for anything else."""
    groups = []
    for index, entry in enumerate(config.runs):
        chains = [[entry]] if isinstance(entry, str) else entry
        chains = [[chain] if isinstance(chain, str) else chain for chain in chains] if isinstance(chains, list) else []
        names = [name for chain in chains if isinstance(chain, list) for name in chain]
        if not all(isinstance(chain, list) and chain for chain in chains) or not names or not _all_text(names):
            raise UserError(
                f"{where}: runs[{index}] must be a file name, or a list of chains to run side by side, each a file "
                f"name or a list of them; got {entry!r}"
            )
        groups.append(chains)
    return groups


def check_files(path: Path, above: tuple[Path, ...] = ()) -> None:
    """Reads every configuration of a sequence, before the first one runs. UserError for a mistake in any, and for a
    sequence that holds itself.
    """
    config, here = load_config(path), path.resolve()
    if here in above:
        raise UserError(f"{path}: a sequence cannot hold itself")
    if isinstance(config, SequenceRun):
        for name in (name for chains in groups_of(config, str(path)) for chain in chains for name in chain):
            check_files(path.parent / name, (*above, here))


def _all_text(names: list) -> bool:
    return all(isinstance(name, str) for name in names)


def train_command(resume: bool) -> Command:
    """`hunyuan-video train` of one configuration, by this Python."""
    options = ["--resume"] if resume else []
    return lambda path: [sys.executable, "-u", "-m", "hunyuan_video", "train", str(path), *options]


def side_by_side(chains: Chains, folder: Path, command: Command, report: Callable[[str], None] = print) -> None:
    """Runs all chains at once until they have finished; each name is relative to `folder`.

    The first run that fails stops the others, and so do Ctrl-C, SIGTERM and every error here. Raises UserError.
    """
    lines: queue.Queue[str | None] = queue.Queue()
    environment = {**os.environ, "OMP_NUM_THREADS": str(share(len(chains)))}
    workers = [Chain([folder / name for name in chain], command, environment, lines) for chain in chains]
    left = len(workers)
    with _stopped_by_sigterm():
        try:
            for worker in workers:
                worker.start()
            while left:
                line = lines.get()
                if line is not None:
                    report(line)
                    continue
                left -= 1
                if any(worker.failure for worker in workers):
                    break
        finally:
            for worker in workers:
                worker.stop()
            while not lines.empty():
                if line := lines.get():
                    report(line)
    failure = next((worker.failure for worker in workers if worker.failure), None)
    if failure:
        others = ", ".join(path.name for path in (worker.interrupted for worker in workers) if path)
        stopped = f"; stopped beside it: {others}" if others else ""
        raise UserError(f"{failure}{stopped}. Its own message is above; go on with --resume")


def share(count: int) -> int:
    """Threads for each of `count` processes: the cores that this one may use, or OMP_NUM_THREADS, divided."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(limit) if limit.isdigit() else cores) // count)


class Chain(threading.Thread):
    """Processes one after the other; their lines go to a queue, then None.

    failure: what went wrong, or "". interrupted: the configuration that `stop` ended, if one.
    """

    def __init__(
        self, paths: Sequence[Path], command: Command, environment: dict[str, str], lines: queue.Queue[str | None]
    ):
        super().__init__(daemon=True)
        self.paths, self.command, self.environment, self.lines = paths, command, environment, lines
        self.failure = ""
        self.interrupted: Path | None = None
        self.lock = threading.Lock()
        self.stopping = False
        self.current: tuple[Path, subprocess.Popen] | None = None

    def run(self) -> None:
        try:
            for path in self.paths:
                if not self.run_one(path):
                    return
        except OSError as error:
            self.failure = f"cannot start a run ({error.strerror})"
        finally:
            self.lines.put(None)

    def run_one(self, path: Path) -> bool:
        """Run a file; True if it ended well."""
        with self.lock:
            if self.stopping:
                return False
            process = subprocess.Popen(
                self.command(path), env=self.environment, text=True, errors="replace",
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            self.current = path, process
        with process:
            for line in process.stdout or ():
                self.lines.put(f"[{path.stem}] {line.rstrip()}")
        with self.lock:
            self.current = None
            if process.returncode and not self.stopping:
                self.failure = f"{path.name} failed (exit code {process.returncode})"
        return process.returncode == 0

    def stop(self) -> None:
        """Ends the process that runs now, if any, and starts no other. Checkpoints are whole at any time."""
        with self.lock:
            self.stopping = True
            if self.current is not None:
                self.interrupted, process = self.current
                process.terminate()
        if self.ident is not None:
            self.join()


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that no run outlives this process."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
