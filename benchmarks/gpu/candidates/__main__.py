"""Races variants of the FP8 product on a GPU: python -m benchmarks.gpu.candidates FOLDER_OF_OBJECTS RESULT.json.

Each contender is first compared with float64 on some rows, then timed, taking turns with the others on the same random
data; a part of them also alone for a second, with clock and power. The file is written after every line. A contender
that ends the process (a kernel that hangs or faults) is left out when the same command is started again.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __package__:
    from .contenders import BLOCK, FINISHED, PEER, Problem, Run, contenders, finished
else:  # started as a folder
    from contenders import BLOCK, FINISHED, PEER, Problem, Run, contenders, finished

ROWS = 119056
E4M3, BF16 = torch.float8_e4m3fn, torch.bfloat16
CASES = (  # end, K, N, scales of x by block, other orders of tiles
    ("bias", 3072, 12288, False, True),
    ("quantize", 3072, 12288, False, False),
    ("gate", 12288, 3072, True, False),
    ("gate", 15360, 3072, True, False),
    ("gate", 3072, 3072, False, False),
    ("bias", 3072, 9216, False, False),
    ("bias", 3072, 21504, False, False),
    ("bias", 12288, 3072, False, False),
    ("gelu", 3072, 12288, False, False),
    ("bias", 3072, 3072, False, False),
)
ALONE = (PEER, "own", "old_256x128")
WORST_ERROR = {"quantize": 4e-2}  # relative, root mean square; else 8e-3: bfloat16 and the tensor cores' sums


class Meter:
    """SM clock in MHz and watts of a device, by NVML, over a stretch of work. Zeros where there is no NVML."""

    def __init__(self, index: int = 0) -> None:
        self.device = ctypes.c_void_p()
        try:
            self.library: ctypes.CDLL | None = ctypes.CDLL("libnvidia-ml.so.1")
            if self.library.nvmlInit_v2() or self.library.nvmlDeviceGetHandleByIndex_v2(
                index, ctypes.byref(self.device)
            ):
                self.library = None
        except OSError:
            self.library = None

    def clock(self) -> int:
        value = ctypes.c_uint()
        if self.library is None or self.library.nvmlDeviceGetClockInfo(self.device, 1, ctypes.byref(value)):
            return 0
        return value.value

    def millijoules(self) -> int:
        value = ctypes.c_ulonglong()
        if self.library is None or self.library.nvmlDeviceGetTotalEnergyConsumption(self.device, ctypes.byref(value)):
            return 0
        return value.value

    def over(self, work: Callable[[], float]) -> dict[str, float]:
        """The time that `work` returns, with mean clock and power while it ran."""
        clocks, done = [], threading.Event()

        def sample() -> None:
            while not done.wait(0.02):
                clocks.append(self.clock())

        sampler = threading.Thread(target=sample, daemon=True)
        started, energy = time.monotonic(), self.millijoules()
        sampler.start()
        milliseconds = work()
        seconds, energy = time.monotonic() - started, self.millijoules() - energy
        done.set()
        sampler.join()
        late = clocks[len(clocks) // 3 :] or [0]  # the clock settles first
        return {"ms": milliseconds, "mhz": sum(late) / len(late), "watts": energy / 1000 / seconds}


class Watchdog:
    """Ends the process (status 9) when nobody has called `alive` for `seconds`: a kernel hangs."""

    def __init__(self, seconds: float) -> None:
        self.last, self.seconds = time.monotonic(), seconds
        threading.Thread(target=self.watch, daemon=True).start()

    def alive(self) -> None:
        self.last = time.monotonic()

    def watch(self) -> None:
        while time.monotonic() - self.last < self.seconds:
            time.sleep(0.1)
        os._exit(9)


def random_codes(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(seed)
    codes = torch.empty(rows, columns, dtype=E4M3, device="cuda")
    for start in range(0, rows, 16384):
        part = torch.randn(min(16384, rows - start), columns, generator=generator, device="cuda", dtype=BF16)
        codes[start : start + 16384] = (part * 100).clamp(-448, 448).to(E4M3)
    return codes


def make_problem(finish: str, inner: int, columns: int, by_block: bool) -> Problem:
    generator = torch.Generator("cuda").manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device="cuda", dtype=BF16)

    steps = inner // BLOCK
    x_scale = (
        0.01 * (1 + torch.rand((steps, ROWS) if by_block else (ROWS,), generator=generator, device="cuda"))
    ).float()
    weight_scale = (0.01 * (1 + torch.rand(columns, generator=generator, device="cuda"))).float() / inner**0.5
    quantized = finish == "quantize"
    return Problem(
        finish, random_codes(ROWS, inner, 1), x_scale, random_codes(columns, inner, 2), weight_scale,
        normal(columns), normal(1, columns), normal(ROWS, columns) if finish == "gate" else torch.empty(0),
        torch.empty(ROWS, columns, dtype=E4M3 if quantized else BF16, device="cuda"),
        torch.empty(columns // BLOCK, ROWS, device="cuda"),
    )  # fmt: skip


def picked() -> Tensor:
    """Rows to compare: some of all, and the last, ragged tile."""
    some = torch.randperm(ROWS, generator=torch.Generator().manual_seed(4))[:192]
    return torch.cat([some, torch.arange(ROWS - 32, ROWS)]).cuda()


def expected(p: Problem, rows: Tensor, finish: str) -> Tensor:
    x = p.codes.view(torch.uint8)[rows].view(E4M3).double()
    scale = p.x_scale[..., rows].double()
    x = x * (scale.T.repeat_interleave(BLOCK, 1) if p.by_block else scale[:, None])
    out = x @ (p.weight.double() * p.weight_scale.double()[:, None]).T + p.bias.double()
    if finish in ("gelu", "quantize"):
        out = torch.nn.functional.gelu(out, approximate="tanh")
    return p.residual[rows].double() + p.gate.double() * out if finish == "gate" else out


def error(p: Problem, run: Run, rows: Tensor, right: Tensor, plain: Tensor) -> float:
    """Relative root mean square error of the rows."""
    p.out.view(torch.uint8).fill_(0x7F), p.out_scale.fill_(float("nan"))
    result = run()
    torch.cuda.synchronize()
    if result is not None and run.__name__ == "run":  # the product alone
        got, right = result[rows].double(), plain
    elif isinstance(result, tuple):
        codes = result[0].view(torch.uint8)[rows].view(E4M3).double()
        got = codes * result[1][:, rows].double().T.repeat_interleave(BLOCK, 1)
    elif result is not None:
        got = result[rows].double()
    elif p.finish == "quantize":
        codes = p.out.view(torch.uint8)[rows].view(E4M3).double()
        got = codes * p.out_scale[:, rows].double().T.repeat_interleave(BLOCK, 1)
    else:
        got = p.out[rows].double()
    return float(((got - right).square().mean() / right.square().mean()).sqrt())


def milliseconds(run: Run) -> float:
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop)


def for_a_while(run: Run, seconds: float) -> float:
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        times.append(milliseconds(run))
    return statistics.median(times[len(times) // 3 :])


class Race:
    def __init__(self, folder: Path, result: Path, rounds: int, seconds: float) -> None:
        self.folder, self.result, self.rounds = folder, result, rounds
        self.end = time.monotonic() + seconds
        self.record: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {"lines": [], "out": []}
        if current := self.record.pop("current", None):  # which ended the last process
            self.record["out"].append(current)
        self.meter, self.dog, self.orders = Meter(), Watchdog(15), True

    def save(self) -> None:
        temporary = self.result.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.record, indent=1))
        os.replace(temporary, self.result)

    def note(self, line: dict[str, Any]) -> None:
        self.record["lines"].append(line)
        self.save()
        print({key: round(value, 5) if isinstance(value, float) else value for key, value in line.items()}, flush=True)

    def begin(self, name: str | None) -> None:
        self.record.pop("current", None)
        if name:
            self.record["current"] = name
        self.save()
        self.dog.alive()

    def case(self, index: int) -> None:
        finish, inner, columns, by_block, everything = CASES[index]
        p = make_problem(finish, inner, columns, by_block)
        rows = picked()
        right, plain = expected(p, rows, finish), expected(p, rows, "bias")
        runs: dict[str, Run] = {}
        errors: dict[str, float] = {}
        for name, run in contenders(self.folder, p, everything and self.orders).items():
            if name in self.record["out"]:
                continue
            self.begin(name)
            try:
                errors[name] = error(p, run, rows, right, plain)
            except RuntimeError as problem:
                self.note({"case": index, "name": name, "failed": str(problem)[:200]})
                continue
            if errors[name] <= WORST_ERROR.get(finish, 8e-3) or name in (PEER, FINISHED):
                runs[name] = run
            else:
                self.note({"case": index, "name": name, "wrong": errors[name]})
        self.begin(None)
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(self.rounds + 1):
            order = list(runs)
            random.Random(turn).shuffle(order)  # who runs behind a cool contender is faster
            for name in order:
                self.dog.alive()
                times[name].append(milliseconds(runs[name]))
        work = 2 * ROWS * inner * columns / 1e9
        peer = statistics.median(times[PEER][1:])
        for name, taken in times.items():
            median = statistics.median(taken[1:])
            line = {"case": index, "finish": finish, "K": inner, "N": columns, "by_block": by_block, "name": name,
                    "ms": median, "least": min(taken[1:]), "tflops": work / median, "error": errors[name]}  # fmt: skip
            ratios = {"peer": peer / median}
            if FINISHED in times:
                ratios["finished_peer"] = statistics.median(times[FINISHED][1:]) / median
            self.note(line | ratios)
        if everything:
            self.alone(p, runs)

    def alone(self, p: Problem, runs: dict[str, Run]) -> None:
        """A second each, with clock and power: on the random data, then on zeros."""
        for data in ("random", "zeros"):
            if data == "zeros":
                p.codes.zero_(), p.weight.zero_()
            for name in runs:
                if name in ALONE or name.startswith("cutlass") and "," not in name and data == "random":
                    self.dog.alive()
                    seen = self.meter.over(lambda run=runs[name]: for_a_while(run, 0.5))
                    self.note({"alone": data, "name": name, **seen})

    def run(self) -> None:
        for index in range(self.record.get("next", 0), len(CASES)):
            if time.monotonic() > self.end:
                break
            self.case(index)
            torch.cuda.empty_cache()
            self.record["next"] = index + 1
            self.begin(None)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--seconds", type=float, default=90.0, help="no case starts after these (default %(default)s)")
    parser.add_argument("--warm", action="store_true", help="compile what torch compiles, and nothing else")
    parser.add_argument("--no-orders", action="store_true", help="no other orders of tiles")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("There is no CUDA device.", file=sys.stderr)
        return 1
    if options.warm:  # what torch compiles, into its cache
        for finish, inner, columns in (("quantize", 3072, 12288), ("gate", 3072, 3072), ("gelu", 3072, 12288)):
            finished(make_problem(finish, inner, columns, False))()
        return 0
    race = Race(options.objects, options.result, options.rounds, options.seconds)
    race.orders = not options.no_orders
    race.record["device"] = torch.cuda.get_device_name()
    race.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
