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
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tarfile
import time
from itertools import islice
from pathlib import Path

import torch

from hunyuan_video.cli import main as command
from hunyuan_video.training import checkpoint, loop
from hunyuan_video.training.config import load_config
from hunyuan_video.training.report import read_log
from hunyuan_video.training.run import run

HERE = Path(__file__).resolve()
KINDS = ("kill", "disk", "damage", "unreadable", "NaN", "evaluation")
BUCKET = "5x16x16"
MODEL = {"hidden_size": 32, "num_heads": 1, "double_blocks": 1, "single_blocks": 1, "rope_dims": [8, 12, 12],
         "text_dim": 128, "pooled_text_dim": 96, "guidance_embed": False, "refiner_depth": 1,
         "patch_size": [1, 1, 1]}  # fmt: skip


def make(folder: Path, steps: int, every: int) -> None:
    """Encoded clips of the bundled world, of which two are damaged for good, and the configuration of both runs."""
    os.chdir(folder)
    options = ("--bucket", BUCKET, "--clips", "64", "--captions", "2")
    assert command(["encode", "toyworld:narrow", "-o", "data", *options]) == 0
    change_clip(Path("data"), 3, "unreadable")
    change_clip(Path("data"), 11, "NaN")
    evaluated = 4 * every
    settings = {"kind": "flow_encoded", "data": "data", "checkpoint": "tiny", "held_out": 2, "sample_steps": 1,
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
                    now["last"] = min(now["last"], now["step"] + 7)
                    raise RuntimeError("the judge has left")
                die()
            return method(*args, **named)

        setattr(owner, name, call)

    loop.Trainer.step = counted
    if fault == "evaluation":
        task = __import__("hunyuan_video.training.tasks.flow", fromlist=["FlowTask"]).FlowTask
        deadly(task, "evaluate")
    elif where == "save":
        deadly(checkpoint.dcp, "save")
    elif where == "rename":
        deadly(checkpoint, "replace_folder")
    elif where == "evaluation":
        deadly(loop.Trainer, "evaluate")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    run(config, resume=True)


def start(config: str, fault: str = "", at: int = 1 << 60, where: str = "loss") -> subprocess.CompletedProcess:
    words = [sys.executable, str(HERE), ".", "--child", config, fault or "none", str(at), where]
    return subprocess.run(words, capture_output=True, text=True)


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
    exported = __import__("safetensors.torch", fromlist=["load_file"]).load_file
    for path in (output / "export").glob("*.safetensors"):
        places |= {f"export/{name}": tensor for name, tensor in exported(path).items()}
    return places


def numbers(folder: Path) -> list[tuple]:
    """Log entries that must be equal in both runs: step and losses, evaluations by their step."""
    kept = ("loss", "grad", "lr", "skipped")
    entries = read_log(folder)
    steps = [(line["step"], *(line[name] for name in kept)) for line in entries if "loss" in line]
    return steps + sorted({(line["step"], "judged") for line in entries if "loss" not in line})


def marathon(folder: Path, steps: int, faults: int, every: int, seed: int) -> dict[str, int]:
    """Both runs; faults met, by kind. AssertionError where they differ."""
    make(folder, steps, every)
    rng, met, place = random.Random(seed), dict.fromkeys(KINDS, 0), Path("runs/broken")
    for moment, due in enumerate(sorted(rng.sample(range(1, steps - every), faults))):
        kind, change = KINDS[moment % len(KINDS)], None
        where = rng.choice(("loss", "loss", "save", "rename", "evaluation")) if kind in ("kill", "damage") else "loss"
        at = max(due, newest_step(place))
        if kind in ("unreadable", "NaN"):  # on disk for the few steps before the next checkpoint
            at = newest_step(place) + rng.randrange(1, every)
            change = change_clip(Path("data"), rng.choice([n for n in range(60) if n not in (3, 11)]), kind)
        done = start("broken.yaml", kind, at, where)
        if change:
            put_back(change)
        ended = 1 if kind == "disk" else -signal.SIGKILL
        text = damage(place / "checkpoints", rng) if kind == "damage" else ""
        met[kind] += done.returncode == ended
        last = " ".join(done.stdout.splitlines()[-1:])
        print(
            f"{kind} at step {at} ({where}) {text}: exit code {done.returncode}; {last}",
            flush=True,
        )
        assert done.returncode == ended or newest_step(place) == steps, done.stdout[-2000:] + done.stderr[-3000:]
    for name in ("broken", "unbroken"):
        begun = time.monotonic()
        done = start(f"{name}.yaml")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        print(f"{name}: finished, {time.monotonic() - begun:.0f} s", flush=True)
    first, second = state("unbroken.yaml"), state("broken.yaml")
    assert first.keys() == second.keys() and len(first) > 100
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    one, other = numbers(Path("runs/unbroken")), numbers(place)
    assert [entry[0] for entry in one[:steps]] == list(range(1, steps + 1))
    assert one == other
    print(f"{len(first)} tensors equal bit for bit; {len(one)} log entries equal; faults met: {met}")
    return met


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--every", type=int, default=25, help="steps from one checkpoint to the next")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, what, step_number, spot = options.child
        child(name, what, int(step_number), spot)
    else:
        options.folder.mkdir(parents=True, exist_ok=True)
        marathon(options.folder, options.steps, options.faults, options.every, options.seed)
