"""Every kernel once at small, odd sizes, checked against float64: what compute-sanitizer watches.

compute-sanitizer --tool memcheck python -m benchmarks.gpu.smoke [number of the first case]

A case that hangs, or leaves the device unusable, ends the process; stages.py starts it again with the next one.
"""

from __future__ import annotations

import contextlib
import faulthandler
import sys
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any

import torch

from benchmarks.cases import CUDA, Case
from benchmarks.gpu.cases import GpuCase
from benchmarks.gpu.peers import CONTENDERS
from benchmarks.timing import device_works

ERROR, FP8_ERROR = 0.02, 0.08  # of bf16 and of e4m3 operands, relative to float64
PATIENCE = 60.0  # seconds for a case, under the slowest tool


def _case(op: str, **sizes: Any) -> GpuCase:
    name = ", ".join(f"{key} {value}" for key, value in sizes.items())
    return GpuCase(Case(op, name, MappingProxyType(sizes), (), CUDA))


STA = dict(heads=2, grid=(6, 16, 16), tile=(6, 8, 8), window=(1, 1, 1), text=100)
CASES = (
    _case("attention", heads=2, tokens=389, batch=2),
    _case("attention", heads=3, tokens=131, head_dim=64),
    _case("attention_fp8", heads=2, tokens=389, batch=2),
    _case("rope_attention_fp8", heads=9, tokens=272, text=16),
    _case("attention_sparse", **STA),
    _case("qk_norm_rope", heads=3, tokens=144, text=16),
    _case("layer_norm_modulate", tokens=67, width=3072),
    _case("layer_norm_modulate_fp8", tokens=67, width=3072),
    _case("gate_residual", tokens=67, width=3072),
    _case("fp8_linear", rows=67, inner=256, outer=384),
    _case("fp8_linear", rows=131, inner=8320, outer=144, epilogue="gate"),
    _case("fp8_linear", rows=3, inner=128, outer=256, epilogue="gelu"),
    _case("fp8_mlp", rows=131, inner=256, outer=272),
    _case("group_norm_silu", channels=64, volume=(3, 17, 13)),
    _case("group_norm_silu", channels=128, volume=(3, 33, 31)),
    _case("conv3d_padded", channels=16, out=32, volume=(3, 17, 19)),
    _case("conv3d_padded", channels=128, out=136, volume=(2, 18, 17)),
    _case("norm_silu_conv3d", channels=64, out=64, volume=(3, 17, 19)),
)


@torch.no_grad()
def error_of(case: GpuCase, device: str) -> float:
    """Relative error of this package's result."""
    inputs = case.inputs(device)
    ours = CONTENDERS[case.op][0]
    return float(case.relative_error(case.exact(inputs), ours.prepare(inputs)()))


@contextlib.contextmanager
def ending_after(seconds: float) -> Iterator[None]:
    """Ends the process, with a traceback, when what is inside takes longer: hanging kernels cannot be interrupted."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def passes(case: GpuCase) -> bool:
    limit = FP8_ERROR if case.label == "fp8" else ERROR
    try:
        error = error_of(case, "cuda")
        torch.cuda.synchronize()
    except Exception as failure:
        print(f"failed: {type(failure).__name__}: {failure}", flush=True)
        return False
    print(f"error {error:.1e}" + ("" if error <= limit else f" > {limit}"), flush=True)
    return error <= limit


def main(arguments: Sequence[str]) -> int:
    first, wrong = int(arguments[0]) if arguments else 0, 0
    for number, case in list(enumerate(CASES))[first:]:
        print(f"case {number} of {len(CASES)}: {case.op} {case.case.name}", flush=True)
        with ending_after(PATIENCE):
            wrong += not passes(case)
            if not device_works():
                break
    print(f"cases from {first} on: {wrong} failed")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
