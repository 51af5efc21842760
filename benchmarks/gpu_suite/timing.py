"""Time of GPU work by CUDA events, and what the device reaches at best, measured in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

SECONDS = 0.35  # of measuring, per contender
REPEATS = (3, 200)
SLOW_SECONDS = 4.0  # a call that takes longer is measured once, after one small warm-up by its case
QUEUE_AHEAD_CYCLES = 4_000_000  # the device sleeps about 2 ms while the host queues launches: gaps do not count


def microseconds(run: Callable[[], object]) -> float:
    """Median time of a call on the current device, in microseconds."""
    first = _timed(run, 1)[0]
    if first > SLOW_SECONDS * 1e6:
        return first
    run()
    once = _timed(run, 1)[0]
    repeats = int(min(max(SECONDS * 1e6 / max(once, 1.0), REPEATS[0]), REPEATS[1]))
    return median(_timed(run, repeats))


def _timed(run: Callable[[], object], repeats: int) -> list[float]:
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda.synchronize()
    torch.cuda._sleep(QUEUE_AHEAD_CYCLES)
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) * 1e3 for before, after in zip(events, events[1:], strict=False)]


def device_works() -> bool:
    """False after a kernel that left CUDA unusable in this process."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


@dataclass(frozen=True)
class Ceilings:
    """Best rates of this device on random data: copy in TB/s (read + written), matrix products in TFLOP/s."""

    copy: float
    bf16: float
    fp8: float

    def of(self, unit: str, dtype: str) -> float:
        return self.copy if unit == "TB/s" else self.fp8 if dtype.startswith("fp8") else self.bf16


def measure_ceilings(device: str) -> Ceilings:
    gigabytes, size = 4, 8192
    source, target = (torch.randint(0, 255, (gigabytes << 30,), dtype=torch.uint8, device=device) for _ in range(2))
    copy = 2 * source.numel() / microseconds(lambda: target.copy_(source)) / 1e6
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    product = 2.0 * size**3 / 1e6
    bf16 = product / microseconds(lambda: a @ b)
    try:
        one = torch.ones((), device=device)
        a8, b8 = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn).t()
        fp8 = product / microseconds(lambda: scaled_mm(a8, b8, one, one))
    except RuntimeError:  # no FP8 tensor cores before compute capability 8.9
        fp8 = float("nan")
    return Ceilings(copy, bf16, fp8)


def scaled_mm(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch's FP8 product: e4m3 [M, K] x [K, N] column-major -> bf16; scales of tensors or of rows and columns."""
    return torch._scaled_mm(
        a, b, scale_a=a_scale, scale_b=b_scale, bias=bias, out_dtype=torch.bfloat16, use_fast_accum=True
    )


class Deadline:
    """Seconds that a run has left."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        return self.end - time.monotonic()
