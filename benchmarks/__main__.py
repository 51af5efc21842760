"""Operations, models, pipeline and start-up beside their peers on a CPU: python -m benchmarks [--quick] [--only NAME]

Writes JSON, CSV and Markdown into benchmarks/results (--output), named after the machine, and prints the tables. With
--only, results of other parts that are already there stay. An interrupted run keeps the parts that it finished.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hunyuan_ext
from benchmarks import machine, report, results
from benchmarks.cpu.parts import PARTS, missing_peers


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
