"""Measures a case: every contender on the same tensors, each alone responsible for its failures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from benchmarks.cases import Inputs
from benchmarks.contenders import Contender
from benchmarks.gpu import models
from benchmarks.gpu.cases import GpuCase, kernel_cases
from benchmarks.gpu.peers import CONTENDERS, installed
from benchmarks.machine import Ceilings
from benchmarks.results import ABSENT, Peer, Report, Row, failure, nobody, peer_of
from benchmarks.timing import gpu_times


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
    row.take(attempt(ours, case, inputs, dry=ceilings is None))
    if ceilings is not None and row.ms:
        row.rate = case.work() / row.ms / 1e9
        row.ceiling = row.rate / ceilings.of(case.unit, case.label)
    report(row)
    for peer in peers:
        row.peers[peer.name] = attempt(peer, case, inputs, dry=ceilings is None)
    return row


def attempt(contender: Contender, case: GpuCase, inputs: Inputs, dry: bool) -> Peer:
    """Time and error of a contender, or why it has none: whatever it raises is its result."""
    if not installed(contender):
        return Peer(note=ABSENT)
    try:
        run = contender.prepare(inputs)
        output = run()
        error = case.relative_error(inputs, output)
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
