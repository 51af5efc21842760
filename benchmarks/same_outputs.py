"""True if two checkouts compute the same, bit for bit: for a change that must not change results.

    python benchmarks/same_outputs.py OTHER_CHECKOUT [--quick] [--only REGEX] [--keep FOLDER]

Runs the cases of output_cases.py in this checkout and in OTHER_CHECKOUT, each with its own `.venv/bin/python` and
build, on one CPU thread, and compares what they wrote: latents, videos, encoded shards, converted checkpoints, weights
and logs of 20 training steps of each kind, and the recorded cases in $HUNYUAN_GOLDEN. Then this checkout goes on with
states, data and checkpoints that the other one wrote. A line for each case: equal, or different and by how much.
About 5 minutes of two cores; --quick, one. Exit status 1 where anything differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402

from benchmarks import output_cases  # noqa: E402
from benchmarks.output_cases import Case, folder_of  # noqa: E402

PASSING = re.compile("per_s$|^memory|seconds|minutes")  # keys of logs that say how fast a run was
CONTINUED = ("flow", "flow float32", "stages", "vae_stages", "dmd distillation", "consistency distillation")
RESUMED = ("sample 1 few_step", "sample 1 none", "sample bfloat16")
# Of a training checkpoint: an identifier drawn at random, and a sum over it; the settings of a run, new with a version.
IGNORED = (".metadata", "files.json", "resolved.json")
SHOWN = 3  # differing files of a case


@dataclass(frozen=True)
class Checkout:
    """A source tree with its own environment, and the folder that its commands run in."""

    root: Path
    work: Path

    @property
    def python(self) -> str:
        return str(self.root / ".venv" / "bin" / "python")

    def run(self, *arguments: str) -> str:
        """Standard output of this checkout's Python; SystemExit with the last line of its errors."""
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HUNYUAN_EXT_"))}
        variables |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run([self.python, *arguments], cwd=self.work, env=variables, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise SystemExit(f"{self.root}: {' '.join(arguments)}: exit status {done.returncode}: {last}")
        return done.stdout

    def command(self, *arguments: str) -> str:
        return self.run("-m", "hunyuan_video", *arguments)

    def origin(self) -> dict[str, str]:
        """Origin of its packages; SystemExit unless that is its own source tree, built."""
        if not Path(self.python).exists():
            raise SystemExit(f"{self.root} has no .venv/bin/python; run `make install` there")
        origin = json.loads(self.run(output_cases.__file__, "origin"))
        for package in ("hunyuan_ext", "hunyuan_video"):
            if self.root not in Path(origin[package]).parents:
                raise SystemExit(f"{self.root}: its Python imports {package} from {origin[package]}")
        if origin["native"] != "True":
            raise SystemExit(f"{self.root}: the kernels are not built; run `make install` there")
        return origin


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("other", type=Path, metavar="OTHER_CHECKOUT", help="with its own .venv, built")
    parser.add_argument("--quick", action="store_true", help="a few cases of each sort")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases whose names match; `encode` runs always")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where outputs are kept; default nowhere")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="same-outputs-") as folder:
        work = (args.keep or Path(folder)).absolute()
        roots = (ROOT, args.other.resolve())
        sides = tuple(Checkout(root, work / name) for root, name in zip(roots, ("this", "other"), strict=True))
        different = 0
        for name, verdict in compare_all(sides[0], sides[1], args.quick, re.compile(args.only)):
            different += verdict.startswith("DIFFERENT")
            print(f"{name:28} {verdict}", flush=True)
    print(f"{different} of the cases differ" if different else "everything is equal")
    return 1 if different else 0


def compare_all(this: Checkout, other: Checkout, quick: bool, only: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """(case, verdict) in the order in which they run."""
    for side in (this, other):
        shutil.rmtree(side.work, ignore_errors=True)
        side.work.mkdir(parents=True)
    tiny = [Path(side.origin()["tiny"]) for side in (this, other)]
    yield "bundled checkpoint", verdict(differences(*tiny))
    for side in (this, other):
        shutil.copytree(tiny[1], side.work / "checkpoint")
        output_cases.write_recipes(side.work)
    cases = [case for case in output_cases.cases() if case.quick or not quick]
    cases = [case for case in cases if only.search(case.name) or case.name == "encode"]
    for case in cases:
        yield case.name, compare_case(case, this, other)
    for case in cases:
        if case.name in CONTINUED:
            yield f"continued: {case.name}", continued(case.name, this, other)
        if case.name in RESUMED:
            yield f"resumed: {case.name}", resumed(case, this, other)
    if only.search("golden"):
        yield "golden", golden(this, other)


def compare_case(case: Case, this: Checkout, other: Checkout) -> str:
    def run(side: Checkout) -> None:
        for output in case.outputs:
            (side.work / output).parent.mkdir(parents=True, exist_ok=True)
        for command in case.commands:
            side.command(*command)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, (this, other)))
    return verdict(itertools.chain.from_iterable(differences(this.work / o, other.work / o) for o in case.outputs))


def continued(name: str, this: Checkout, other: Checkout) -> str:
    """This checkout continues the other one's run from its last checkpoint but one, to the other one's weights."""
    run = Path("runs") / folder_of(name)
    shutil.rmtree(this.work / run)
    shutil.copytree(other.work / run, this.work / run)
    export = max(path.relative_to(this.work) for path in (this.work / run).rglob("export"))  # of the last stage
    *earlier, last = sorted((this.work / export).parent.glob("checkpoints/step_*"))
    if not earlier:
        return f"DIFFERENT: {run} has one checkpoint only"
    shutil.rmtree(this.work / export)
    shutil.rmtree(last)
    this.command("train", output_cases.recipe_file(name), "--resume")
    return verdict(differences(this.work / export, other.work / export))


def resumed(case: Case, this: Checkout, other: Checkout) -> str:
    """This checkout makes the other one's files from the other one's sampling state."""
    folder = Path(case.outputs[0]).parent
    shutil.rmtree(this.work / folder)
    (this.work / folder).mkdir()
    shutil.copy(other.work / case.outputs[-1], this.work / case.outputs[-1])
    this.command("sample", "--resume", case.outputs[-1])
    return verdict(itertools.chain.from_iterable(differences(this.work / o, other.work / o) for o in case.outputs))


def golden(this: Checkout, other: Checkout) -> str:
    folder = os.environ.get("HUNYUAN_GOLDEN")
    if not folder:
        return "skipped: set HUNYUAN_GOLDEN to the folder of the recordings"
    for side in (this, other):
        side.run(output_cases.__file__, "golden", str(Path(folder).resolve()), "golden.safetensors")
    return verdict(differences(*(side.work / "golden.safetensors" for side in (this, other))))


def verdict(faults: Iterator[str]) -> str:
    lines = list(faults)
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return f"DIFFERENT: {'; '.join(lines[:SHOWN])}{more}" if lines else "equal"


def differences(a: Path, b: Path) -> Iterator[str]:
    """A line for each file, of two files or folders, that is in one alone or differs."""
    if a.is_file() and b.is_file():
        difference = "" if a.read_bytes() == b.read_bytes() else of_files(a, b)
        if difference:
            yield f"{a.name}: {difference}"
        return
    files = [
        {path.relative_to(top) for path in top.rglob("*") if path.is_file() and path.name not in IGNORED}
        for top in (a, b)
    ]
    if not files[0] | files[1]:
        stem = a.stem  # several videos: out-001.mp4
        files = [{path.relative_to(top.parent) for path in top.parent.glob(f"{stem}-*{top.suffix}")} for top in (a, b)]
        a, b = a.parent, b.parent
    if not files[0] | files[1]:
        yield f"{a.name}: absent in both"
    for path in sorted(files[0] ^ files[1]):
        yield f"{path}: only in {'this' if path in files[0] else 'the other'} checkout"
    for path in sorted(files[0] & files[1]):
        yield from differences(a / path, b / path)


def of_files(a: Path, b: Path) -> str:
    """Difference of two files with other bytes; "" if only in what says how fast a run was."""
    if a.suffix == ".safetensors":
        return of_values(tensors_of(a), tensors_of(b))
    if a.suffix in (".pt", ".bin"):
        return of_values(*(torch.load(path, weights_only=True, map_location="cpu") for path in (a, b)))
    if a.suffix == ".json":
        return of_values(*(json.loads(path.read_text()) for path in (a, b)))
    if a.suffix == ".jsonl":
        return of_values(*([json.loads(line) for line in path.read_text().splitlines()] for path in (a, b)))
    if a.suffix in (".mp4", ".png"):
        return of_values(pixels_of(a), pixels_of(b)) or "the same pixels, other bytes"
    return "other bytes"


def tensors_of(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        for name, text in (file.metadata() or {}).items():
            try:
                tensors[f"metadata {name}"] = json.loads(text)
            except ValueError:
                tensors[f"metadata {name}"] = text
    return tensors


def pixels_of(path: Path) -> torch.Tensor:  # [F, H, W, 3]
    import av

    with av.open(str(path)) as container:
        return torch.stack([torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)])


def of_values(a: Any, b: Any, where: str = "") -> str:
    """The first difference in structure, else the largest one of numbers; "" if there is none."""
    differing = list(_differing(a, b, where))
    for place, size in differing:
        if size is None:
            return place
    place, size = max(differing, key=lambda difference: difference[1] or 0.0, default=("", 0.0))
    return f"{len(differing)} values differ, most by {size:.3g}{place and f' in {place}'}" if differing else ""


def _differing(a: Any, b: Any, where: str) -> Iterator[tuple[str, float | None]]:
    """(place, largest difference), None for what has no size."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted({*a, *b}, key=str):
            if PASSING.search(str(name)):
                continue
            if name not in a or name not in b:
                yield f"{where}{name} is in one alone", None
            else:
                yield from _differing(a[name], b[name], f"{where}{name} ")
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            yield f"{where}has {len(a)} and {len(b)} entries", None
        for number, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from _differing(x, y, f"{where}{number} ")
    elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            yield f"{where}is {a.dtype} {list(a.shape)} and {b.dtype} {list(b.shape)}", None
        elif not torch.equal(a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8)):
            yield where.strip(), float((a.double() - b.double()).abs().max())
    elif isinstance(a, float) and isinstance(b, float):
        if a != b and not (a != a and b != b):
            yield where.strip(), abs(a - b)
    elif a != b:
        yield f"{where}is {a!r:.60} and {b!r:.60}", None


if __name__ == "__main__":
    sys.exit(main())
