"""The kernel cases of the GPU table: what is computed, how much work that is, and what it should reach on an H200.

Work counts what the operation must do, whoever does it: FLOP of the products, or bytes read and written once. Inputs
are in inputs.py and, of operations that the CPU suite has, too, in benchmarks/cases.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from benchmarks import cases as shared
from benchmarks.cases import CUDA, Case, Inputs, attention_flops, conv_flops, linear_flops
from benchmarks.gpu.inputs import INPUTS, REFERENCES, sliding_mask
from benchmarks.results import TBS, TFLOPS
from benchmarks.targets import Rate
from hunyuan_ext import Fp8Rows

TOKENS, TEXT, HEADS, WIDTH = 119056, 256, 24, 3072  # 720p x 129 frames of the released model
BF16_BYTES = 2
NO_TARGET = Rate()


@dataclass(frozen=True)
class GpuCase:
    """seconds: of all contenders together, about: decides whether the time left is enough. quick: also with --quick."""

    case: Case
    target: Rate = NO_TARGET
    seconds: float = 4.0
    quick: bool = False
    dtype: str = "bfloat16"

    @property
    def op(self) -> str:
        return self.case.op

    @property
    def label(self) -> str:
        return "fp8" if "fp8" in self.op else self.dtype

    @property
    def unit(self) -> str:
        return WORK[self.op][1]

    def work(self) -> float:
        """FLOP, or bytes."""
        return WORK[self.op][0](**self.case.sizes, each=BF16_BYTES)

    def inputs(self, device: str) -> Inputs:
        make = INPUTS.get(self.op, shared.INPUTS.get(self.op))
        return make(shared.noise_source(self.dtype, device), **self.case.sizes)

    def relative_error(self, inputs: Inputs, output: Tensor | Fp8Rows) -> Tensor:
        """|output - exact| / |exact| over the part that the float64 result is computed of."""
        refer = REFERENCES.get(self.op)
        expected, part = refer(inputs) if refer else shared.reference(self.case, inputs)
        output = output.decoded(torch.float32) if isinstance(output, Fp8Rows) else output
        return (part(output).double() - expected).norm() / expected.norm()


def _sparse_flops(heads: int, grid, tile, window, text: int, **_: Any) -> float:
    mask = sliding_mask(grid, tile, window, text)
    return 4.0 * heads * len(mask.key_blocks) * mask.query_tile * mask.key_tile * 128


def _norm_rope_bytes(heads: int, tokens: int, text: int, each: int) -> float:
    """q and k in and out; the tables once."""
    return 2 * 2 * each * heads * tokens * 128.0 + 2 * 4 * (tokens - text) * 128


WORK = shared.WORK | {
    "attention": (attention_flops, TFLOPS),
    "attention_fp8": (attention_flops, TFLOPS),
    "rope_attention_fp8": (attention_flops, TFLOPS),
    "attention_sparse": (_sparse_flops, TFLOPS),
    "qk_norm_rope": (_norm_rope_bytes, TBS),
    "fp8_gemm": (linear_flops, TFLOPS),
    "conv3d_padded": (conv_flops, TFLOPS),
    "norm_silu_conv3d": (conv_flops, TFLOPS),
    "layer_norm_modulate_fp8": (lambda tokens, width, each: (each + 1.0) * tokens * width, TBS),
    "fp8_mlp": (lambda rows, inner, outer, each: 4.0 * rows * inner * outer, TFLOPS),
}


def _case(op: str, name: str, target: Rate = NO_TARGET, *, seconds: float = 4.0, quick: bool = False, **sizes: Any):
    return GpuCase(Case(op, name, MappingProxyType(sizes), ("bfloat16",), CUDA), target, seconds, quick)


PRODUCT, LINEAR, LINEAR_SHORT = Rate(1000, 1250), Rate(peer=1.15), Rate(peer=1.0)
CONV, NORM_CONV = Rate(450, 600), Rate(peer=2.0)
NORM_ROPE = Rate(gate=2.97)  # TB/s: 1.0 ms for q and k of 119,056 tokens
MEMORY = Rate(gate=3.6)
STA = dict(heads=HEADS, grid=(30, 48, 80), tile=(6, 8, 8), text=TEXT)  # the grid of arXiv 2502.04507

TILE, PAST_32_BITS = (17, 256, 256), (65, 512, 544)  # the latter has 2.3e9 elements at 128 channels

CASES: tuple[GpuCase, ...] = (
    _case("attention", f"H{HEADS} S4096", quick=True, heads=HEADS, tokens=4096),
    _case("attention", f"H{HEADS} S32768", Rate(600, 700, peer=1.0), heads=HEADS, tokens=32768),
    _case("attention", f"H{HEADS} S{TOKENS}", Rate(600, 700, peer=1.0), seconds=12, heads=HEADS, tokens=TOKENS),
    _case("attention", f"H{HEADS} S32749 (prime)", Rate(600, 700), heads=HEADS, tokens=32749),
    _case("attention", "H16 S16384 D64", heads=16, tokens=16384, head_dim=64),
    _case("attention", "B4 H24 S8192", batch=4, heads=HEADS, tokens=8192),
    _case("attention_fp8", f"H{HEADS} S4096", quick=True, heads=HEADS, tokens=4096),
    _case("attention_fp8", f"H{HEADS} S32768", Rate(900, 1100), heads=HEADS, tokens=32768),
    _case("attention_fp8", f"H{HEADS} S{TOKENS}", Rate(900, 1100), seconds=10, heads=HEADS, tokens=TOKENS),
    _case("attention_sparse", "30x48x80 + 256, window 3x3x5", Rate(500, 600), window=(3, 3, 5), **STA),
    _case("attention_sparse", "30x48x80 + 256, window 3x5x9", Rate(500, 600), window=(3, 5, 9), **STA),
    _case("qk_norm_rope", f"H{HEADS} S4096", quick=True, heads=HEADS, tokens=4096, text=TEXT),
    _case("qk_norm_rope", f"H{HEADS} S{TOKENS}", NORM_ROPE, heads=HEADS, tokens=TOKENS, text=TEXT),
    _case("rope_attention", f"H{HEADS} S{TOKENS}", seconds=12, heads=HEADS, tokens=TOKENS, text=TEXT),
    _case("rope_attention_fp8", f"H{HEADS} S{TOKENS}", seconds=12, heads=HEADS, tokens=TOKENS, text=TEXT),
    _case("layer_norm_modulate", f"{TOKENS}x{WIDTH}", MEMORY, quick=True, tokens=TOKENS, width=WIDTH),
    _case("layer_norm_modulate_fp8", f"{TOKENS}x{WIDTH}", MEMORY, quick=True, tokens=TOKENS, width=WIDTH),
    _case("gate_residual", f"{TOKENS}x{WIDTH}", MEMORY, quick=True, tokens=TOKENS, width=WIDTH),
    _case("fp8_gemm", "4096x3072x3072", quick=True, rows=4096, inner=WIDTH, outer=3072),
    _case("fp8_gemm", f"{TOKENS}x3072x12288", PRODUCT, rows=TOKENS, inner=WIDTH, outer=12288),
    _case("fp8_gemm", f"{TOKENS}x12288x3072", PRODUCT, rows=TOKENS, inner=12288, outer=WIDTH),
    _case("fp8_linear", "4096x3072x3072", LINEAR_SHORT, quick=True, rows=4096, inner=WIDTH, outer=3072),
    _case("fp8_linear", f"{TOKENS}x3072x9216", LINEAR, rows=TOKENS, inner=WIDTH, outer=9216),
    _case("fp8_linear", f"{TOKENS}x3072x12288 gelu", LINEAR, rows=TOKENS, inner=WIDTH, outer=12288, epilogue="gelu"),
    _case("fp8_linear", f"{TOKENS}x12288x3072 gate", LINEAR, rows=TOKENS, inner=12288, outer=WIDTH, epilogue="gate"),
    _case("fp8_linear", f"{TOKENS}x3072x21504", LINEAR, rows=TOKENS, inner=WIDTH, outer=21504),
    _case("fp8_linear", f"{TOKENS}x15360x3072 gate", LINEAR, rows=TOKENS, inner=15360, outer=WIDTH, epilogue="gate"),
    _case("fp8_mlp", f"{TOKENS}x3072x12288", LINEAR, seconds=6, rows=TOKENS, inner=WIDTH, outer=12288),
    _case("fp8_linear", "256x3072x9216", LINEAR_SHORT, rows=256, inner=WIDTH, outer=9216),
    _case("fp8_linear", "1x3072x18432", LINEAR_SHORT, rows=1, inner=WIDTH, outer=18432),
    _case("group_norm_silu", "128ch 5x128x128", quick=True, channels=128, volume=(5, 128, 128)),
    _case("group_norm_silu", "128ch 17x256x256", MEMORY, channels=128, volume=(17, 256, 256)),
    _case("group_norm_silu", "512ch 17x128x128", MEMORY, channels=512, volume=(17, 128, 128)),
    _case("conv3d_padded", "128>128 5x128x128", quick=True, channels=128, out=128, volume=(5, 128, 128)),
    _case("conv3d_padded", "128>128 17x256x256", CONV, channels=128, out=128, volume=(17, 256, 256)),
    _case("conv3d_padded", "256>256 17x256x256", CONV, channels=256, out=256, volume=(17, 256, 256)),
    _case("conv3d_padded", "512>512 17x128x128", CONV, channels=512, out=512, volume=(17, 128, 128)),
    _case("conv3d_padded", "512>512 5x32x32", channels=512, out=512, volume=(5, 32, 32)),
    _case("conv3d_padded", "16>512 33x90x160", channels=16, out=512, volume=(33, 90, 160)),
    _case("conv3d_padded", "128>128 65x512x544", CONV, seconds=8, channels=128, out=128, volume=PAST_32_BITS),
    _case("norm_silu_conv3d", "128>128 17x256x256", NORM_CONV, quick=True, channels=128, out=128, volume=TILE),
    _case("norm_silu_conv3d", "512>512 17x64x64", NORM_CONV, channels=512, out=512, volume=(17, 64, 64)),
)  # fmt: skip


def kernel_cases(quick: bool) -> Iterator[GpuCase]:
    yield from (case for case in CASES if case.quick or not quick)
