"""One command for a machine with a GPU: build, GPU tests, compute-sanitizer, the table of kernels beside their peers.

    python benchmarks/gpu.py                 everything, within --seconds (520)
    python benchmarks/gpu.py --quick         small cases only, no sanitizer
    python benchmarks/gpu.py --only conv     lines whose operation or shape matches; no tests, no sanitizer
    python benchmarks/gpu.py --dry-run       every line with fake tensors, without a GPU
    python benchmarks/gpu.py --candidates    compiles variants of kernels that are not shipped and races them

Prints the machine and a line a case: shape, dtype, median time, rate, share of the measured ceiling, times as fast as
each peer. Writes benchmarks/results/<gpu>-<date>.json, .csv and .md. A case that fails is a line, too. Exit code 1 if
the build, a test, the sanitizer or one of our kernels failed.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import machine, report, results
from benchmarks.gpu import stages
from benchmarks.timing import Deadline
from hunyuan_ext.conv import slabs
from hunyuan_ext.linear import quantize

CHECK_SECONDS = 110.0  # of tests and sanitizer, side by side
KEPT_CHARACTERS = 12000  # of the output of a stage that failed


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.dry_run:
        return dry_run(options)
    if not torch.cuda.is_available():
        print("There is no CUDA device; --dry-run walks the cases without one.", file=sys.stderr)
        return 1
    if options.candidates:
        return race_candidates(options)
    deadline = Deadline(options.seconds)
    done: dict[str, stages.Stage] = {}
    if not options.no_build:
        done["build"] = shown("build", stages.build(machine.ROOT))
        if done["build"].failed:
            return 1
    if options.only is None:
        for name, result in stages.checks(machine.ROOT, CHECK_SECONDS, sanitizer=not options.quick).items():
            done[name] = shown(name, result)
    rows_failed = table(options, deadline, done)
    return int(rows_failed or any(result.failed for result in done.values()))


def race_candidates(options: argparse.Namespace) -> int:
    """Variants of the FP8 product (benchmarks/gpu/candidates): built, then raced in a process that starts again behind
    a kernel that ends it; <output>/candidates-fp8.json."""
    objects, result = machine.ROOT / "build" / "candidates", Path(options.output) / "candidates-fp8.json"
    module, limit = "benchmarks.gpu.candidates", 120.0
    if shown("build", stages.run((sys.executable, "-m", f"{module}.build", str(objects)), machine.ROOT, 300)).failed:
        return 1
    result.unlink(missing_ok=True)
    command = (sys.executable, "-m", module, str(objects), str(result))
    for _ in range(5):
        done = stages.run(command, machine.ROOT, limit)
        print(done.output, flush=True)
        if not done.failed:
            break
    return int(done.failed)


def shown(name: str, result: stages.Stage) -> stages.Stage:
    """The same stage, after a line about it, and the end of its output if it failed."""
    print(f"{name}: {result.summary} ({result.seconds:.0f} s)", flush=True)
    if result.failed:
        print(result.output[-KEPT_CHARACTERS:], flush=True)
    return result


def table(options: argparse.Namespace, deadline: Deadline, done: dict[str, stages.Stage]) -> bool:
    """Measures, prints and writes; whether a line of ours failed."""
    from benchmarks.gpu.worker import run_table

    described, rows = machine.gpu_facts(), []
    path = (
        Path(options.output)
        / f"{re.sub(r'[^a-z0-9]+', '-', described['device'].lower())}-{datetime.now():%Y-%m-%d-%H%M}.json"
    )
    print("\n".join(f"{key}: {value}" for key, value in described.items()), flush=True)
    parts = {name: {"summary": stage.summary, "seconds": round(stage.seconds, 1)} for name, stage in done.items()}
    about: dict[str, Any] = {"title": "Kernels and models", **machine.part_facts()}

    def save() -> dict[str, Any]:
        table_part = results.as_part(rows, **about)
        content = {"format": results.FORMAT, "machine": described, "parts": {**parts, "table": table_part}}
        results.save_results(path, content)
        return content

    def note(row: results.Row) -> None:
        rows.append(row)
        print(report.line(row), flush=True)
        save()  # after every line: a run that is killed leaves what it has

    ceilings = run_table(selected(options), options.quick, deadline, note)
    if ceilings is not None:
        about["ceilings"] = vars(ceilings)
        products = ", ".join(f"{dtype} {rate:.0f}" for dtype, rate in ceilings.product.items())
        print(f"ceilings: copy {ceilings.copy:.2f} TB/s, {products} TFLOP/s")
    results.write(path.with_suffix(".md"), report.tables(save()))
    print(f"written: {path}, and beside it .csv and .md")
    return any(row.note.startswith("failed") for row in rows)


def selected(options: argparse.Namespace) -> list:
    from benchmarks.gpu.worker import entries

    lines = list(enumerate(entries(options.quick)))
    if options.only is not None:
        lines = [(i, entry) for i, entry in lines if re.search(options.only, " ".join(entry.key))]
        if not lines:
            sys.exit(f"--only {options.only}: matches no line; --dry-run lists them")
    return lines


def dry_run(options: argparse.Namespace) -> int:
    """Every case and contender on fake tensors: shapes, dtypes and calls are checked, nothing is computed."""
    failures = 0
    for _, entry in selected(options):
        with in_one_piece(), FakeTensorMode(allow_non_fake_inputs=True):
            row = entry.measure("cpu", None, results.nobody)
        notes = [row.note, *(f"{name}: {peer.note}" for name, peer in row.peers.items())]
        failures += any("failed" in note for note in notes)
        print(report.line(row) + ("" if row.note else "ok"), flush=True)
    print("dry run: " + (f"{failures} cases failed" if failures else "every case walked"))
    return int(failures > 0)


@contextlib.contextmanager
def in_one_piece() -> Iterator[None]:
    """Work that is cut into parts, to stay in a cache, is one part here: fake tensors need no cache, and thousands of
    equal calls on them take minutes."""
    with mock.patch.object(quantize, "DECODED_BYTES", 1 << 40), mock.patch.object(slabs, "WIDE_VALUES", 1 << 40):
        yield


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases only, no sanitizer")
    parser.add_argument("--dry-run", action="store_true", help="walk every case with fake tensors, without a GPU")
    parser.add_argument(
        "--candidates", action="store_true", help="race variants that are not shipped, and nothing else"
    )
    parser.add_argument("--only", metavar="REGEX", help="lines that match; no tests, no sanitizer")
    parser.add_argument("--no-build", action="store_true", help="the module in hunyuan_ext/ is the one to run")
    parser.add_argument("--seconds", type=float, default=520.0, help="for everything together (default %(default)s)")
    parser.add_argument(
        "--output", default=str(results.RESULTS), help="folder of the results (default benchmarks/results)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
