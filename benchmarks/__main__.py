"""Operations, models, pipeline and start-up beside their peers on a CPU: python -m benchmarks [--quick] [--only NAME]

Writes JSON, CSV and Markdown into benchmarks/results (--output), named after the machine, and prints the tables. With
--only, results of other parts that are already there stay. An interrupted run keeps the parts that it finished.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hunyuan_ext
from benchmarks import machine, report, results
from benchmarks.cpu import processes, tasks
from benchmarks.cpu.minis import SCALES
from benchmarks.results import Row


@dataclass(frozen=True)
class Part:
    """seconds: about, on two cores of a Xeon with AMX. peer: it needs diffusers."""

    run: Callable[[argparse.Namespace], Iterator[Row]]
    seconds: int
    peer: bool = True


COMPILE_SECONDS = 235
PARTS = {
    "operations": Part(lambda args: processes.operations(), 120, peer=False),
    "imports": Part(lambda args: processes.imports(rounds=2 if args.quick else 4), 20),
    "calls": Part(lambda args: tasks.calls(SCALES[args.scale]), 10),
    "cold": Part(lambda args: processes.cold_start(*((1, 1) if args.quick else (3, None))), 45),
    "blocks": Part(lambda args: tasks.blocks(SCALES[args.scale]), 20),
    "dit": Part(lambda args: tasks.dit(SCALES[args.scale]), 65),
    "vae": Part(lambda args: tasks.vae_decode(SCALES[args.scale]), 50),
    "pipeline": Part(lambda args: tasks.pipeline(SCALES[args.scale]), 80),
    "memory": Part(lambda args: processes.memory(args.scale), 60),
    "clip": Part(lambda args: processes.long_clip(), 50, peer=False),
    "allocators": Part(lambda args: processes.with_allocators(("dit", "vae", "pipeline"), args.scale), 110),
    "compile": Part(lambda args: processes.compiled(args.scale, COMPILE_SECONDS), COMPILE_SECONDS),
}


def missing_peers() -> Iterator[str]:
    """A line for each that this machine lacks: what is left out, and how to get it."""
    if machine.version("diffusers") is None:
        yield (
            "diffusers is not installed, so blocks, models, pipeline and start-up are left out; get it with: "
            f"{sys.executable} -m pip install diffusers transformers accelerate"
        )
    if processes.TCMALLOC not in processes.allocators():
        yield "tcmalloc is not installed, so the peer does not run with it; on Debian: apt install libtcmalloc-minimal4"
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        yield "torch.compile needs a C++ compiler, so the peer does not run under it; on Debian: apt install g++"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="tiny models: checks that everything runs, measures nothing"
    )
    parser.add_argument("--only", action="append", choices=tuple(PARTS), metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--output", type=Path, default=results.RESULTS, help="folder of the results")
    args = parser.parse_args(argv)
    args.scale = "quick" if args.quick else "mini"
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    build = hunyuan_ext.capabilities()["build"]
    if not build["native"]:
        tell(f"the kernels are not built ({build['reason']}), so nothing would be measured")
        return 1
    started = time.perf_counter()
    names = args.only or [name for name in PARTS if not (args.quick and name == "operations")]
    for line in missing_peers():
        tell(line)
    if machine.version("diffusers") is None:
        names = [name for name in names if not PARTS[name].peer]
    if not args.quick:
        minutes = sum(PARTS[name].seconds for name in names) / 60
        tell(f"about {minutes:.0f} minutes; other work on this machine makes the numbers wrong")
    try:
        run(names, args)
    except KeyboardInterrupt:
        tell("interrupted; the results of finished parts and of earlier runs are kept")
        return 130
    except subprocess.CalledProcessError as error:
        tell(f"{' '.join(map(str, error.cmd[1:5]))}... failed with exit code {error.returncode}; see above")
        return 1
    finally:
        print(write_report(args))
    tell(f"{(time.perf_counter() - started) / 60:.1f} minutes")
    return 0


def tell(line: str) -> None:
    print(f"benchmarks: {line}", file=sys.stderr, flush=True)


def base_path(args: argparse.Namespace) -> Path:
    return args.output / (machine.slug() + ("-quick" if args.quick else ""))


def run(names: Sequence[str], args: argparse.Namespace) -> None:
    """Parts in turn; results are written after each."""
    path = base_path(args).with_suffix(".json")
    stored = results.load_results(path)
    stored["machine"] = machine.machine_facts()
    for number, name in enumerate(names):
        left = sum(PARTS[later].seconds for later in names[number:])
        seconds = PARTS[name].seconds
        tell(
            f"[{number + 1}/{len(names)}] {name}: about {seconds} s, {left / 60:.0f} minutes left with all that follow"
        )
        stored["parts"][name] = run_part(name, args)
        results.save_results(path, stored)


def run_part(name: str, args: argparse.Namespace) -> dict:
    started, before, others = time.perf_counter(), machine.load(), machine.Others()
    measured = list(PARTS[name].run(args))
    seconds = round(time.perf_counter() - started, 1)
    tell(f"{name}: {seconds:.0f} s")
    loads = {"load_before": before, "load_after": machine.load(), "others": others.share()}
    about = {**machine.part_facts(), "seconds": seconds, **loads}
    return results.as_part(measured, **about)


def write_report(args: argparse.Namespace) -> str:
    """Writes the Markdown of everything that is known of this machine, and returns it, the targets last."""
    base = base_path(args)
    stored = results.load_results(base.with_suffix(".json"))
    table = report.tables(stored)
    if stored["machine"]:
        results.write(base.with_suffix(".md"), table)
    return f"{table}\n{report.targets(stored)}"


if __name__ == "__main__":
    sys.exit(main())
