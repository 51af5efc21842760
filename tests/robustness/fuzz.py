"""Damaged files through every command that reads them: `make fuzz`, or

    PYTHONPATH=tests python -m robustness.fuzz --cases 2000 --processes 2

Exit 0, 1 or 2; one line for a failure; no traceback; 20 s at most; nothing left behind. A case is a number: the same
number damages the same file in the same way, so `--only NUMBER` repeats it. Failing cases are kept with their damaged
file in the folder of `--keep`, and their numbers belong into seeds.txt, which the tests run again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path

from robustness.cases import SECONDS, as_process, faults_of, in_process, prepare, target_of

HANGS = 4 * SECONDS  # of computing, for all commands of a case
SLEEPS = 60 * SECONDS  # on the clock: other programs may use the processors, too
PROCESSES = multiprocessing.get_context("spawn")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, nargs="*", help="these cases alone")
    parser.add_argument("--target", default="", help="only cases of files whose path has this in it")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--command-line", type=int, default=40, help="of the cases run as processes of their own, too")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder for failing cases")
    args = parser.parse_args()
    seeds = args.only or list(range(args.first, args.first + args.cases))
    seeds = [seed for seed in seeds if args.target in target_of(seed).path]
    every = max(len(seeds) // max(args.command_line, 1), 1) if args.command_line else 0
    keep = args.keep.absolute()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        began = time.monotonic()
        failed = run(seeds, Path(folder), args.processes, every, keep)
    print(f"{len(seeds)} files, {len(failed)} with faults, {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"cases {' '.join(map(str, failed))}; kept in {keep}")
    return 1 if failed else 0


def run(seeds: list[int], folder: Path, processes: int, every: int, keep: Path) -> list[int]:
    """The numbers of the cases that have faults."""
    world = folder / "world"
    maker = PROCESSES.Process(target=make_world, args=(world,))
    maker.start()
    maker.join()
    if maker.exitcode:
        raise SystemExit("the valid inputs cannot be made")
    waiting, failed, done = list(reversed(seeds)), [], 0
    workers = [Worker(world, folder / f"worker-{number}") for number in range(processes)]
    while waiting or any(worker.seed is not None for worker in workers):
        for worker in workers:
            if worker.seed is None and waiting:
                seed = waiting.pop()
                worker.begin(seed, command_line=bool(every) and seeds.index(seed) % every == every - 1)
        wait([worker.pipe for worker in workers if worker.seed is not None], timeout=1)
        for worker in workers:
            if (answer := worker.answer()) is None:
                continue
            seed, faults = answer
            done += 1
            if faults:
                failed.append(seed)
                tell(seed, faults, world, keep)
            if done % 100 == 0:
                print(f"{done}/{len(seeds)} files, {len(failed)} with faults", flush=True)
    for worker in workers:
        worker.stop()
    return sorted(failed)


def tell(seed: int, faults: list[str], world: Path, keep: Path) -> None:
    target = target_of(seed)
    place = keep / f"{seed}-{Path(target.path).name}"
    shutil.rmtree(place, ignore_errors=True)
    prepare(seed, target, world, place)
    (place / "faults.txt").write_text("".join(f"{fault}\n" for fault in faults))
    for fault in faults:
        print(f"case {seed} ({target.path}): {fault}", flush=True)


class Worker:
    """A process that runs cases one after the other; replaced where it dies or hangs."""

    def __init__(self, world: Path, folder: Path):
        self.world, self.folder, self.seed = world, folder, None
        self.start()

    def start(self) -> None:
        self.pipe, there = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=serve, args=(self.world, self.folder, there))
        self.process.start()
        there.close()

    def computed(self) -> float:
        """Seconds of computing of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def begin(self, seed: int, command_line: bool) -> None:
        self.seed, self.began, self.computed_before = seed, time.monotonic(), self.computed()
        self.pipe.send((seed, command_line))

    def answer(self) -> tuple[int, list[str]] | None:
        """Case and faults once it is done, dead or out of time."""
        if self.seed is None:
            return None
        faults = None
        if self.pipe.poll():
            try:
                faults = self.pipe.recv()
            except EOFError:
                self.process.join()
                faults = [f"the process died with {self.process.exitcode}"]
                self.start()
        elif self.computed() - self.computed_before > HANGS or time.monotonic() - self.began > SLEEPS:
            self.process.kill()
            self.process.join()
            faults = [f"no answer in {time.monotonic() - self.began:.0f} s"]
            self.start()
        if faults is None:
            return None
        seed, self.seed = self.seed, None
        return seed, faults

    def stop(self) -> None:
        self.pipe.send(None)
        self.process.join(10)
        self.process.kill()


def make_world(folder: Path) -> None:
    quiet()
    from robustness.world import build

    build(folder)


def serve(world: Path, folder: Path, pipe: Connection) -> None:
    """Runs the cases that come through the pipe."""
    quiet()
    while (order := pipe.recv()) is not None:
        seed, command_line = order
        faults = faults_of(seed, world, folder, in_process)
        if command_line:
            faults += [f"as a process: {fault}" for fault in faults_of(seed, world, folder, as_process)]
        os.chdir(folder.parent)
        pipe.send(faults)


def quiet() -> None:
    import torch

    torch.set_num_threads(1)
    sys.stdout = open(os.devnull, "w")
    sys.stderr = open(os.devnull, "w")


if __name__ == "__main__":
    sys.exit(main())
