"""SIGKILL at any moment of a command: `make kill`, or

    PYTHONPATH=tests python -m robustness.kill --times 20

Each of sample, train, encode and convert runs unbroken once; then it is killed at random moments and run again as its
user would (with --resume where there is something to resume). A kill may leave no half-written file under a final name,
the second run no temporary file, and its results must be those of the unbroken run, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from robustness.world import PROMPT, build

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch", "hunyuan_video.cli", "hunyuan_video.sampling", "hunyuan_video.training.run",
                                  "hunyuan_video.data.encode", "av", "helpers.random_checkpoint"])  # fmt: skip
TIMES = ("steps_per_s", "samples_per_s", "memory_gb")  # of log.jsonl: each run's own


@dataclass(frozen=True)
class Scenario:
    """A command, and the one that goes on after a kill. Both run in a folder beside the world's folders."""

    words: tuple[str, ...]
    again: Callable[[Path], tuple[str, ...]]


def _resumed_sample(folder: Path) -> tuple[str, ...]:
    return ("sample", "--resume", "out/v.state.safetensors", "--device", "cpu")


SAMPLE = (
    "sample", PROMPT, "--seed", "1", "--num-inference-steps", "6", "--model", "checkpoint", "--device", "cpu",
    "-o", "out/v.mp4", "-o", "out/v.gif",
)  # fmt: skip
TRAIN = ("train", "recipes/encoded.yaml", "--set", "output=out/run", "--set", "loop.steps=6")
ENCODE = tuple("encode videos --bucket 5x32x32 --bucket 1x32x32 --model checkpoint --fps 8 --shard 2 --batch 1 -o "
               "out/data".split())  # fmt: skip
CONVERT = ("convert", "checkpoint", "out/official", "--layout", "official")
SCENARIOS = {
    "sample": Scenario(SAMPLE, lambda folder: _resumed_sample(folder) if state_of(folder) else SAMPLE),
    "train": Scenario(TRAIN, lambda folder: (*TRAIN, "--resume")),
    "encode": Scenario(ENCODE, lambda folder: ENCODE),
    "convert": Scenario(CONVERT, lambda folder: CONVERT),
}


def state_of(folder: Path) -> bool:
    return (folder / "out" / "v.state.safetensors").exists()


def child(folder: Path, words: tuple[str, ...]) -> None:
    import torch

    from hunyuan_video.cli import main

    torch.set_num_threads(1)
    os.chdir(folder)
    os.dup2(os.open("stdout.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(os.open("stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os._exit(main(list(words)))


def run(folder: Path, words: tuple[str, ...], kill_after: float | None = None) -> tuple[int, float]:
    """Exit code and seconds of a command in a process of its own, which is killed after some seconds."""
    process = PROCESSES.Process(target=child, args=(folder, words))
    process.start()
    began = time.monotonic()
    process.join(kill_after)
    if process.exitcode is None:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode, time.monotonic() - began


def results(folder: Path) -> dict[str, str]:
    """Name -> hash of everything in out/; the lines of a log without times, checkpoints by their tensors' bytes."""
    out = folder / "out"
    return {str(path.relative_to(out)): _hash(path) for path in sorted(out.rglob("*")) if path.is_file()}


def _hash(path: Path) -> str:
    content = path.read_bytes()
    if path.name == "log.jsonl":
        lines = [json.loads(line) for line in content.splitlines()]
        content = json.dumps([{key: line[key] for key in line if key not in TIMES} for line in lines]).encode()
    if path.parent.suffix == ".tmp":
        return "temporary"
    if path.parent.name.startswith("step_"):
        return _checkpoint_hash(path.parent) if path.name == "run.json" else "of its checkpoint"
    return hashlib.sha256(content).hexdigest()


def _checkpoint_hash(folder: Path) -> str:
    """Hash of every tensor: the file's bytes depend on the order in which they were written."""
    import torch
    import torch.distributed.checkpoint as dcp

    from hunyuan_video.checkpoints.safetensors_file import as_bytes

    saved = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    tensors = {
        name: torch.zeros(tuple(entry.size), dtype=entry.properties.dtype) for name, entry in sorted(saved.items())
    }
    dcp.load(tensors, storage_reader=dcp.FileSystemReader(folder), no_dist=True)
    digest = hashlib.sha256((folder / "run.json").read_bytes())
    for name, tensor in tensors.items():
        digest.update(name.encode() + bytes(as_bytes(tensor)))
    return digest.hexdigest()


def prepared(world: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("checkpoint", "videos", "dataset", "recipes"):
        shutil.copytree(world / name, folder / name)
    (folder / "out").mkdir()
    return folder


def faults_of(name: str, world: Path, folder: Path, moments: list[float]) -> list[str]:
    """Kills a command at some moments (0 to 1: shares of its time) and runs it again; a line for every fault."""
    scenario = SCENARIOS[name]
    run(prepared(world, folder), scenario.words)  # imports what is imported late, once for the file cache
    code, seconds = run(prepared(world, folder), scenario.words)
    if code:
        return [f"{name}: exit {code}: {(folder / 'stderr.txt').read_text()}"]
    whole, faults = results(folder), []
    for moment in moments:
        prepared(world, folder)
        code, _ = run(folder, scenario.words, kill_after=moment * seconds)
        left = results(folder)
        faults += [f"{name} at {moment:.2f}: {fault}" for fault in half_written(left, whole)]
        if left == whole:  # the kill came after the last rename; `convert` refuses to replace what is finished
            continue
        again, _ = run(folder, scenario.again(folder))
        if again:
            faults.append(f"{name} at {moment:.2f}: run again: exit {again}: {(folder / 'stderr.txt').read_text()}")
            continue
        now = results(folder)
        faults += [f"{name} at {moment:.2f}: {path} is left" for path in now.keys() - whole.keys()]
        faults += [f"{name} at {moment:.2f}: {path} is missing" for path in whole.keys() - now.keys()]
        different = [path for path in now.keys() & whole.keys() if now[path] != whole[path]]
        faults += [f"{name} at {moment:.2f}: {path} differs from the unbroken run's" for path in different]
    return faults


def half_written(left: dict[str, str], whole: dict[str, str]) -> list[str]:
    """Files under final names that are not what the unbroken run wrote; a log grows, a state changes."""
    growing = ("log.jsonl", "skipped.jsonl")
    return [
        f"{path} is half written"
        for path, content in left.items()
        if path in whole and whole[path] != content and Path(path).name not in growing
    ]


def moments_of(count: int, seed: int) -> list[float]:
    """One moment in each of `count` equal parts of a run, in any place of it."""
    rng = random.Random(seed)
    return [(part + rng.random()) / count for part in range(count)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="kills of each command")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("commands", nargs="*", default=[], metavar="COMMAND", help="default: all four")
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        world = Path(folder) / "world"
        world.mkdir()
        build(world)
        for name in args.commands or SCENARIOS:
            faults = faults_of(name, world, Path(folder) / "work", moments_of(args.times, args.seed))
            failed += len(faults)
            print(*faults, f"{name}: {args.times} kills, {len(faults)} faults", sep="\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
