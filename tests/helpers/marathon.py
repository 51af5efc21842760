"""A run on the bundled world that meets a fault at many random moments, is continued after each, and must end as an
unbroken one: the same bits in the last checkpoint and in the export, every step of the log once.

    OMP_NUM_THREADS=1 python tests/helpers/marathon.py FOLDER --steps 2000 --faults 20

Faults, in turn, each at a random step:
  kill       SIGKILL: in the loss, while a checkpoint is written, before it gets its name, or in an evaluation
  disk       files may not grow any more (RLIMIT_FSIZE) from a step on: the run ends when it saves
  damage     the newest checkpoint loses bytes, a file, or gets another byte, after a kill
  unreadable a clip's bytes are garbage, NaN: its latents are not finite; the run is killed before it saves what it
             learned without that clip, and the clip is put back
  evaluation raises; the run goes on, and is killed a few steps later
Every run is a fork of this process, which has imported all and computed nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file

from hunyuan_video.cli import main as command
from hunyuan_video.training import checkpoint, loop
from hunyuan_video.training.config import load_config
from hunyuan_video.training.report import read_log
from hunyuan_video.training.run import run
from hunyuan_video.training.tasks.flow import FlowTask

KINDS = ("kill", "disk", "damage", "unreadable", "NaN", "evaluation")
BUCKET = "5x16x16"
DAMAGED = {3: "unreadable", 11: "NaN"}  # clips that stay so
HELD_OUT = 2
AFTER = 3  # steps from a failed evaluation to the kill: fewer than to the next checkpoint
MODEL = {"hidden_size": 32, "num_heads": 1, "double_blocks": 1, "single_blocks": 1, "rope_dims": [8, 12, 12],
         "text_dim": 128, "pooled_text_dim": 96, "guidance_embed": False, "refiner_depth": 1,
         "patch_size": [1, 1, 1]}  # fmt: skip


def make(steps: int, every: int, clips: int) -> None:
    """Encoded clips of the bundled world, of which two are damaged for good, and the configuration of both runs."""
    options = ("--bucket", BUCKET, "--clips", str(clips), "--captions", "2")
    assert command(["encode", "toyworld:narrow", "-o", "data", *options]) == 0
    for number, kind in DAMAGED.items():
        change_clip(Path("data"), number, kind)
    evaluated = 4 * every
    settings = {"kind": "flow_encoded", "data": "data", "checkpoint": "tiny", "held_out": HELD_OUT, "sample_steps": 1,
                "model": MODEL, "workers": 1, "optimizer": {"lr": 1e-3, "warmup_steps": 10, "ema": 0.95},
                "loop": {"steps": steps, "batch": 4, "seed": 7, "log_every": 1, "save_every": every,
                         "sheet_every": evaluated, "keep": 3, "threads": 1, "precision": "fp32"}}  # fmt: skip
    for name in ("unbroken", "broken"):
        Path(f"{name}.yaml").write_text(json.dumps({**settings, "output": f"runs/{name}"}))


def change_clip(data: Path, number: int, kind: str) -> tuple[Path, int, bytes]:
    """Makes a clip unreadable or its latents NaN; what `put_back` needs."""
    shard = sorted((data / BUCKET).glob("*.tar"))[0]
    with tarfile.open(shard) as file:
        member = next(islice(file, number, None))
        content = file.extractfile(member).read()
    if kind == "unreadable":
        new = b"\xff" * len(content)
    else:
        header = 8 + int.from_bytes(content[:8], "little")
        start, end = json.loads(content[8:header])["latents"]["data_offsets"]
        new = bytearray(content)
        new[header + start : header + end] = b"\x00\x7e" * ((end - start) // 2)  # float16 NaN
    put_back((shard, member.offset_data, bytes(new)))
    return shard, member.offset_data, content


def put_back(change: tuple[Path, int, bytes]) -> None:
    shard, offset, content = change
    with open(shard, "r+b") as file:
        file.seek(offset)
        file.write(content)


def damage(checkpoints: Path, rng: random.Random) -> str:
    """Damages a file of the newest checkpoint; "" where there is none."""
    newest = sorted(path for path in checkpoints.glob("step_*") if path.name[5:].isdigit())[-1:]
    if not newest:
        return ""
    path = rng.choice(sorted(newest[0].iterdir()))
    how = rng.choice(("cut off", "deleted", "a byte changed"))
    content = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    else:
        place = rng.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :])
    return f"{newest[0].name}/{path.name} {how}"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def child(config: str, fault: str, at: int, where: str) -> None:
    """Continues a run, with a fault from step `at` on."""
    now = {"step": -1, "last": 1 << 60}
    step = loop.Trainer.step

    def counted(trainer, number):
        now["step"] = number
        if number >= at:
            if fault == "disk":
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
            elif fault != "evaluation" and where == "loss":
                die()
        if number >= now["last"]:
            die()
        return step(trainer, number)

    def deadly(owner, name):
        method = getattr(owner, name)

        def call(*args, **named):
            if now["step"] >= at:
                if fault == "evaluation":
                    now["last"] = min(now["last"], now["step"] + AFTER)
                    raise RuntimeError("the judge has left")
                die()
            return method(*args, **named)

        setattr(owner, name, call)

    loop.Trainer.step = counted
    if fault == "evaluation":
        deadly(FlowTask, "evaluate")
    elif where == "save":
        deadly(checkpoint.dcp, "save")
    elif where == "rename":
        deadly(checkpoint, "replace_folder")
    elif where == "evaluation":
        deadly(loop.Trainer, "evaluate")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    run(config, resume=True)


def start(work: Callable[[], object]) -> tuple[int, str]:
    """Exit code and output of a fork of this process that does the work; the code of one that was killed is < 0."""
    with tempfile.TemporaryFile() as output:
        if not (process := os.fork()):
            code = 1
            try:
                for stream in (1, 2):
                    os.dup2(output.fileno(), stream)
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        output.seek(0)
        return code, output.read().decode(errors="replace")


def newest_step(folder: Path) -> int:
    """The step that a run will continue with: of the newest whole checkpoint."""
    whole = [path for path in (folder / "checkpoints").glob("step_*")
             if path.name[5:].isdigit() and checkpoint._damage(path) is None]  # fmt: skip
    return max((int(path.name[5:]) for path in whole), default=0)


def state(config: str) -> dict[str, torch.Tensor]:
    """Every tensor of the last checkpoint, and of the export."""
    settings = load_config(config)
    output = Path(settings.output)
    reader = checkpoint.dcp.FileSystemReader(output / f"checkpoints/step_{settings.loop.steps:07d}")
    places = {name: torch.zeros(tuple(entry.size), dtype=entry.properties.dtype)
              for name, entry in reader.read_metadata().state_dict_metadata.items()}  # fmt: skip
    checkpoint.dcp.load(places, storage_reader=reader, no_dist=True)
    for path in (output / "export").glob("*.safetensors"):
        places |= {f"export/{name}": tensor for name, tensor in load_file(path).items()}
    return places


def numbers(folder: Path) -> list[tuple]:
    """Log entries that must be equal in both runs: losses and counts of steps, results of evaluations."""
    kept = ("loss", "grad", "lr", "skipped", "unreadable")
    entries = read_log(folder)
    steps = [(line["step"], *(line[name] for name in kept)) for line in entries if "loss" in line]
    return steps + [(line["step"], line["evaluation"]) for line in entries if "evaluation" in line]


def marathon(steps: int, faults: int, every: int, clips: int, seed: int) -> dict[str, int]:
    """Both runs, in the current folder; faults met, by kind. AssertionError where they differ."""
    code, text = start(partial(make, steps, every, clips))
    assert code == 0, text
    rng, met, place = random.Random(seed), dict.fromkeys(KINDS, 0), Path("runs/broken")
    whole = [number for number in range(clips - HELD_OUT) if number not in DAMAGED]
    for moment, due in enumerate(sorted(rng.sample(range(1, steps - every), faults))):
        kind, change = KINDS[moment % len(KINDS)], None
        where = rng.choice(("loss", "loss", "save", "rename", "evaluation")) if kind in ("kill", "damage") else "loss"
        at = max(due, newest_step(place))
        if kind in ("unreadable", "NaN"):  # on disk for the few steps before the next checkpoint
            at = newest_step(place) + rng.randrange(1, every)
            change = change_clip(Path("data"), rng.choice(whole), kind)
        code, text = start(partial(child, "broken.yaml", kind, at, where))
        if change:
            put_back(change)
        damaged = damage(place / "checkpoints", rng) if kind == "damage" else ""
        logged = any("evaluation_failed" in line for line in read_log(place)) if kind == "evaluation" else True
        ended = 1 if kind == "disk" else -signal.SIGKILL
        met[kind] += logged and (code == ended or kind == "evaluation")
        last = " ".join(text.splitlines()[-1:])
        print(f"{kind} at step {at} ({where}) {damaged}: exit code {code}; {last}", flush=True)
        assert code == ended or newest_step(place) == steps, text[-5000:]
    for name in ("broken", "unbroken"):
        begun = time.monotonic()
        code, text = start(partial(run, f"{name}.yaml", resume=True))
        assert code == 0, text[-5000:]
        print(f"{name}: finished, {time.monotonic() - begun:.0f} s", flush=True)
    first, second = state("unbroken.yaml"), state("broken.yaml")
    assert first.keys() == second.keys() and len(first) > 100
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    one, other = numbers(Path("runs/unbroken")), numbers(place)
    assert [entry[0] for entry in one[:steps]] == list(range(1, steps + 1))
    assert one == other, [pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]][:3]
    print(f"{len(first)} tensors equal bit for bit; {len(one)} log entries equal; faults met: {met}")
    return met


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--every", type=int, default=25, help="steps from one checkpoint to the next")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=False)  # another run cannot be continued
    os.chdir(options.folder)
    torch.set_num_threads(1)
    marathon(options.steps, options.faults, options.every, options.clips, options.seed)
