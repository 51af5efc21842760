"""Measures lines of the table in a process of its own, so that a kernel that crashes or hangs costs one line.

The parent (`run_table`) sends it numbers of lines; it answers each with lines of JSON: what is ours, then all of it. A
crash leaves CUDA unusable in the process, and a hang has to be killed: the parent then starts another one for the rest.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch

from benchmarks.cases import Inputs
from benchmarks.contenders import Contender
from benchmarks.gpu import models
from benchmarks.gpu.cases import Exact, GpuCase, kernel_cases
from benchmarks.gpu.peers import CONTENDERS, installed
from benchmarks.gpu.stages import GROUP, end, variables_for
from benchmarks.machine import ROOT, Ceilings, measure_ceilings
from benchmarks.results import ABSENT, Peer, Report, Row, failure, nobody, peer_of, row_of
from benchmarks.timing import Deadline, device_works, gpu_times


@dataclass(frozen=True)
class Entry:
    """A line. seconds: about how long it takes.

    measure(device, ceilings, report): a dry run where ceilings is None. `report` gets the row as soon as what is ours
    is known: then only a peer can still fail.
    """

    key: tuple[str, str, str]  # op, shape, dtype
    seconds: float
    measure: Callable[[str, Ceilings | None, Report], Row]


def entries(quick: bool) -> Iterator[Entry]:
    """All lines, the most telling first: a run that is cut short has those."""
    for case in kernel_cases(quick):
        yield Entry((case.op, case.case.name, case.label), case.seconds, _kernel(case))
    for model in models.model_cases(quick):
        yield Entry((model.op, model.shape, "bfloat16"), model.seconds, model.measure)


def _kernel(case: GpuCase) -> Callable[[str, Ceilings | None, Report], Row]:
    return lambda device, ceilings, report: measure_kernel(case, device, ceilings, report)


@torch.no_grad()
def measure_kernel(case: GpuCase, device: str, ceilings: Ceilings | None, report: Report = nobody) -> Row:
    row = Row(case.op, case.case.name, case.label, "cuda", unit=case.unit)
    row.gate, row.goal, row.peer_gate = case.target.gate, case.target.goal, case.target.peer
    ours, *peers = CONTENDERS[case.op]
    inputs = case.inputs(device)
    exact = cache(lambda: case.exact(inputs))  # computed by the first who gets so far, for all
    row.take(attempt(ours, case, inputs, exact, dry=ceilings is None))
    if ceilings is not None and row.ms:
        row.rate = case.work() / row.ms / 1e9
        row.ceiling = row.rate / ceilings.of(case.unit, case.label)
    report(row)
    for peer in peers:
        row.peers[peer.name] = attempt(peer, case, inputs, exact, dry=ceilings is None)
    return row


def attempt(contender: Contender, case: GpuCase, inputs: Inputs, exact: Callable[[], Exact], dry: bool) -> Peer:
    """Time and error of a contender, or why it has none: whatever it raises is its result."""
    if not installed(contender):
        return Peer(note=ABSENT)
    try:
        run = contender.prepare(inputs)
        output = run()
        error = case.relative_error(exact(), output)
        del output
        if dry:
            return Peer()
        return peer_of(gpu_times(run), float(error))
    except Exception as error:
        return failure(error)
    finally:
        if not dry:
            with contextlib.suppress(RuntimeError):  # the device is unusable: the reason is in the result
                torch.cuda.empty_cache()


START_SECONDS, PATIENCE = 60.0, 4.0  # to import and warm up; a line may take that many times its estimate
STRIKES = 2  # of an operation, until its other lines are skipped
HUNG = "failed: not done"


@dataclass
class Worker:
    """A process that measures the lines whose numbers it is sent."""

    process: subprocess.Popen[str]
    messages: queue.Queue[dict[str, Any] | None]

    @classmethod
    def start(cls, quick: bool, ceilings: Ceilings | None) -> Worker:
        task = json.dumps({"quick": quick, "ceilings": ceilings and asdict(ceilings)})
        command = [sys.executable, "-m", "benchmarks.gpu.worker", task]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables_for(ROOT))
        worker = cls(subprocess.Popen(command, cwd=ROOT, **pipes, **GROUP), queue.Queue())  # type: ignore[call-overload]
        threading.Thread(target=worker._read, daemon=True).start()
        return worker

    def _read(self) -> None:
        for line in self.process.stdout or ():
            if line.startswith("{"):
                with contextlib.suppress(ValueError):  # the noise of a library
                    self.messages.put(json.loads(line))
        self.messages.put(None)

    def answer(self, seconds: float) -> dict[str, Any] | str:
        """The next message, or why there is none; the process is then gone."""
        try:
            message = self.messages.get(timeout=max(seconds, 1.0))
        except queue.Empty:
            self.stop()
            return f"{HUNG} after {seconds:.0f} s; stopped"
        if message is not None:
            return message
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        self.stop()
        return f"failed: the process ended with status {self.process.returncode}"

    def measure(self, index: int, entry: Entry, deadline: Deadline) -> tuple[Row, bool]:
        """A line, and whether the process can measure another. Peers have as much time again as what is ours."""
        assert self.process.stdin is not None
        row = Row(*entry.key, "cuda")
        with contextlib.suppress(OSError):  # it has ended: the answer says so
            print(index, file=self.process.stdin, flush=True)
        while True:
            answer = self.answer(min(PATIENCE * entry.seconds + 20, deadline.left()))
            if isinstance(answer, str):
                if row.ms is None:
                    row.note = row.note or answer
                else:
                    row.peers["peers"] = Peer(note=answer)
                return row, False
            row = row_of(answer["row"])
            if "healthy" in answer:
                return row, answer["healthy"]

    def stop(self) -> None:
        end(self.process)


def run_table(
    lines: Sequence[tuple[int, Entry]], quick: bool, deadline: Deadline, report: Callable[[Row], None]
) -> Ceilings | None:
    """Measures the lines in order while there is time, reporting each row; returns the ceilings.

    An operation of ours that hung once, or twice ended the process or made the device unusable, is not tried again.
    """
    worker, ceilings, strikes, starts = None, None, Counter[str](), 0
    for index, entry in lines:
        if strikes[entry.key[0]] >= STRIKES:
            report(Row(*entry.key, "cuda", note="skipped: this operation failed before, see above"))
            continue
        if deadline.left() < entry.seconds:
            note = f"skipped: {deadline.left():.0f} s left, about {entry.seconds:.0f} needed"
            report(Row(*entry.key, "cuda", note=note))
            continue
        if worker is None:
            worker, starts = Worker.start(quick, ceilings), starts + 1
            hello = worker.answer(min(START_SECONDS, deadline.left()))
            if isinstance(hello, str):
                report(Row(*entry.key, "cuda", note=hello))
                worker = None
                if starts >= STRIKES:
                    return ceilings
                continue
            ceilings, starts = Ceilings(**hello["ceilings"]), 0
        row, healthy = worker.measure(index, entry, deadline)
        report(row)
        if not healthy:
            strikes[entry.key[0]] += (row.ms is None) * (STRIKES if HUNG in row.note else 1)
            worker.stop()
            worker = None
    if worker is not None:
        worker.stop()
    return ceilings


def main(task: dict[str, Any]) -> None:
    known = task["ceilings"]
    ceilings = Ceilings(**known) if known else measure_ceilings("cuda")
    print(json.dumps({"ceilings": asdict(ceilings)}), flush=True)
    lines = list(entries(task["quick"]))
    for number in sys.stdin:
        entry = lines[int(number)]
        try:
            row = entry.measure("cuda", ceilings, lambda row: print(json.dumps({"row": asdict(row)}), flush=True))
        except Exception as error:
            row = Row(*entry.key, "cuda", note=failure(error).note)
        print(json.dumps({"row": asdict(row), "healthy": device_works()}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
