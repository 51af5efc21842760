"""Who takes part in the race of FP8 products: candidates by name, today's kernel, torch's product."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 128
Run = Callable[[], object]
POINTER, LONG = ctypes.c_void_p, ctypes.c_int64


class LinearArgs(ctypes.Structure):
    """hunyuan_linear_fp8_args."""

    _fields_ = (
        [(name, POINTER) for name in ("x", "x_scale", "weight", "weight_scale", "bias", "gate", "residual", "out",
                                      "out_scale")]
        + [(name, LONG) for name in ("rows", "in_columns", "out_columns", "tokens", "gate_stride", "x_block",
                                     "weight_scales")]
        + [("gelu", ctypes.c_int), ("x_tail", POINTER), ("x_tail_scale", POINTER), ("head_columns", LONG)]
    )  # fmt: skip


@dataclass
class Problem:
    """Operands of one product: codes [M, K] and [N, K], scales of rows or (x) of blocks, and how it finishes."""

    finish: str  # bias, gelu, gate, quantize
    codes: Tensor
    x_scale: Tensor  # [M], or [K / 128, M]
    weight: Tensor
    weight_scale: Tensor  # [N]
    bias: Tensor
    gate: Tensor  # [1, N]
    residual: Tensor  # [M, N], or empty
    out: Tensor
    out_scale: Tensor

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.codes.shape[0], self.weight.shape[0], self.codes.shape[1]

    @property
    def by_block(self) -> bool:
        return self.x_scale.ndim == 2

    def args(self) -> LinearArgs:
        rows, columns, inner = self.sizes
        gated, quantized = self.finish == "gate", self.finish == "quantize"
        return LinearArgs(
            self.codes.data_ptr(), self.x_scale.data_ptr(), self.weight.data_ptr(), self.weight_scale.data_ptr(),
            self.bias.data_ptr(), self.gate.data_ptr() if gated else None, self.residual.data_ptr() if gated else None,
            self.out.data_ptr(), self.out_scale.data_ptr() if quantized else None, rows, inner, columns, rows, columns,
            BLOCK if self.by_block else 0, 1, int(self.finish in ("gelu", "quantize")), None, None, 0,
        )  # fmt: skip


def own(path: Path, problem: Problem, group: int, sharing: int) -> Run:
    call, args = ctypes.CDLL(str(path)).candidate, problem.args()
    call.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    stream = torch.cuda.current_stream().cuda_stream

    def run() -> None:
        if status := call(ctypes.addressof(args), group, sharing, 0, 0, stream):
            raise RuntimeError(f"status {status}")

    return run


def cutlass(path: Path, problem: Problem, swizzle: int, along_n: int) -> Run:
    call, args = ctypes.CDLL(str(path)).candidate_cutlass, problem.args()
    rows, columns, inner = problem.sizes
    call.argtypes = [POINTER] * 8 + [ctypes.c_int] * 6 + [POINTER, LONG, POINTER]
    workspace = torch.empty(1 << 20, dtype=torch.uint8, device="cuda")
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    stream = torch.cuda.current_stream().cuda_stream

    def run() -> None:
        if status := call(args.x, args.weight, args.x_scale, args.weight_scale, args.bias, args.gate, args.residual,
                          args.out, rows, columns, inner, swizzle, along_n, processors, workspace.data_ptr(),
                          workspace.numel(), stream):  # fmt: skip
            raise RuntimeError(f"status {status}")

    return run


def shipped(problem: Problem) -> Run:
    from hunyuan_ext.core import native

    p, gated, quantized = problem, problem.finish == "gate", problem.finish == "quantize"
    gelu = problem.finish in ("gelu", "quantize")

    def run() -> None:
        native.module.linear_fp8(
            p.codes, p.x_scale, None, None, p.weight, p.weight_scale[:, None], p.bias, p.gate if gated else None,
            p.residual if gated else None, p.out, p.out_scale if quantized else None, gelu,
        )  # fmt: skip

    return run


def scaled_mm(problem: Problem, fast: bool) -> Run:
    """The product with bias alone (torch finishes in kernels of their own), with scales of rows in any case."""
    p = problem
    scale = p.x_scale[0] if p.by_block else p.x_scale

    def run() -> Tensor:
        return torch._scaled_mm(
            p.codes, p.weight.T, scale[:, None], p.weight_scale[None], p.bias, out_dtype=torch.bfloat16,
            use_fast_accum=fast,
        )  # fmt: skip

    return run


def gelu(y: Tensor) -> Tensor:
    return F.gelu(y, approximate="tanh")


def gate(y: Tensor, gate: Tensor, residual: Tensor) -> Tensor:
    return residual + gate * y


def quantize(y: Tensor) -> tuple[Tensor, Tensor]:
    blocks = F.gelu(y, approximate="tanh").float().unflatten(1, (-1, BLOCK))
    scale = blocks.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 448
    return (blocks / scale).to(torch.float8_e4m3fn).flatten(1), scale[..., 0].T.contiguous()


def finished(problem: Problem) -> Run:
    """torch's product and what follows it in a compiled kernel of its own; a result as wide as the product's."""
    p, product = problem, scaled_mm(problem, True)
    operands = (p.gate, p.residual) if p.finish == "gate" else ()
    finish = torch.compile({"gelu": gelu, "gate": gate, "quantize": quantize}[p.finish], dynamic=False)
    return lambda: finish(product(), *operands)


PEER = "_scaled_mm rows fast"
FINISHED = "_scaled_mm rows fast, compiled end"


def contenders(folder: Path, problem: Problem, everything: bool) -> dict[str, Run]:
    """By name, those that can take the problem; `everything`: other orders of tiles, too."""
    runs: dict[str, Run] = {PEER: scaled_mm(problem, True), "shipped": shipped(problem)}
    if problem.finish != "bias":
        runs[FINISHED] = finished(problem)
    if everything:
        runs["_scaled_mm rows slow"] = scaled_mm(problem, False)
    inner = problem.sizes[2]
    for path in sorted([*folder.glob("own*.so"), *folder.glob("old*.so")]):
        name, promoted = path.stem, "promoted" in path.stem
        if problem.by_block and not promoted or promoted and inner < 8192:
            continue
        runs[name] = own(path, problem, 8, 1)
        if everything and not promoted:
            for group in (4, 16, 32):
                runs[f"{name}, groups of {group}"] = own(path, problem, group, 1)
    for path in sorted(folder.glob(f"cutlass_*_{problem.finish}.so")):
        if problem.by_block:
            continue
        runs[path.stem] = cutlass(path, problem, 8, 1)
        if everything:
            runs[f"{path.stem}, along M"] = cutlass(path, problem, 8, 0)
            runs[f"{path.stem}, swizzle 1"] = cutlass(path, problem, 1, 1)
    return runs
