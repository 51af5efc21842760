"""Blocks, models, pipeline and start-up beside diffusers: python benchmarks/system.py [--quick] [--only NAME]

Writes Markdown and JSON into benchmarks/results (--output), named after the machine, and prints the tables. With
--only, results of other parts that are already there stay.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # run as a script, its own folder is the first

import hunyuan_ext  # noqa: E402
from benchmarks import machine, processes, results, tasks  # noqa: E402
from benchmarks.kernel_results import kernel_file, kernel_section  # noqa: E402
from benchmarks.minis import SCALES  # noqa: E402
from benchmarks.results import Measurement  # noqa: E402

Part = Callable[[argparse.Namespace], Iterator[Measurement]]
ALLOCATOR_TASKS = ("dit", "vae_decode", "pipeline_small")
PARTS: dict[str, Part] = {
    "imports": lambda args: processes.imports(rounds=2 if args.quick else 4),
    "calls": lambda args: tasks.calls(SCALES[args.scale]),
    "cold": lambda args: processes.cold_start(*((1, 1) if args.quick else (3, None))),
    "blocks": lambda args: tasks.blocks(SCALES[args.scale]),
    "dit": lambda args: tasks.dit(SCALES[args.scale]),
    "vae": lambda args: tasks.vae_decode(SCALES[args.scale]),
    "pipeline": lambda args: tasks.pipeline(SCALES[args.scale]),
    "memory": lambda args: processes.memory(args.scale),
    "allocators": lambda args: processes.with_allocators(ALLOCATOR_TASKS, args.scale),
    "compile": lambda args: tasks.compiled(SCALES[args.scale]),
}
SLOW = ("compile",)  # only when asked for


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="tiny models: checks that everything runs, measures nothing"
    )
    parser.add_argument("--only", action="append", choices=tuple(PARTS), metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--all", action="store_true", help=f"also the slow parts: {', '.join(SLOW)}")
    parser.add_argument("--output", type=Path, default=results.RESULTS, help="folder of the results")
    args = parser.parse_args(argv)
    args.scale = "quick" if args.quick else "mini"
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    build = hunyuan_ext.capabilities()["build"]
    if not build["native"]:
        print(
            f"benchmarks: the kernels are not built ({build['reason']}), so nothing would be measured", file=sys.stderr
        )
        return 1
    if machine.version("diffusers") is None:
        print("benchmarks: the peer is not installed; pip install diffusers transformers", file=sys.stderr)
        return 1
    base = args.output / (machine.slug() + ("-quick" if args.quick else ""))
    path = base.with_name(base.name + ".json")
    found = results.load_results(path)
    found["machine"] = machine.machine_facts()
    for name in args.only or [name for name in PARTS if args.all or name not in SLOW]:
        found["sections"][name] = run_part(name, args)
        results.save_results(path, found)  # after every part: a run that is cut off keeps what it has
    table = results.tables(found, None if args.quick else kernel_section(kernel_file(args.output)))
    results.write(base.with_name(base.name + ".md"), table)
    print(table)
    return 0


def run_part(name: str, args: argparse.Namespace) -> dict:
    print(f"{name} ...", file=sys.stderr, flush=True)
    started, before, others = time.perf_counter(), machine.load(), machine.Others()
    measured = list(PARTS[name](args))
    seconds = round(time.perf_counter() - started, 1)
    print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    loads = {"load_before": before, "load_after": machine.load(), "others": others.share()}
    facts = {**machine.section_facts(), "seconds": seconds, **loads}
    return results.as_section(measured, **facts)


if __name__ == "__main__":
    sys.exit(main())
