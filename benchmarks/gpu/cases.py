"""The kernel cases of the GPU table: what is computed, how much work that is, and what it should reach on an H200.

Work counts what the operation must do, whoever does it: FLOP of the products, or bytes read and written once. Inputs
of operations that the CPU suite has, too, are in benchmarks/cases.py; float64 results are of a part of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

from benchmarks import cases as shared
from benchmarks.cases import CUDA, Case, Inputs, attention_flops, conv_flops, linear_flops
from benchmarks.results import TBS, TFLOPS
from benchmarks.targets import Rate
from hunyuan_ext import BlockMask, Fp8Rows
from hunyuan_ext import reference as spec

Triple = tuple[int, int, int]
Exact = tuple[Tensor, Callable[[Tensor], Tensor]]  # a part of the result in float64; that part of an output
SAMPLED_TILES = 24  # of queries: their first rows are checked


def _attention_inputs(noise: Callable, heads: int, tokens: int, head_dim: int = 128, batch: int = 1) -> Inputs:
    """As a fused projection leaves them: views of one buffer."""
    q, k, v = noise(batch, tokens, 3, heads, head_dim).unbind(2)
    return dict(q=q, k=k, v=v)


def _sparse_inputs(noise: Callable, heads: int, grid: Triple, tile: Triple, window: Triple, text: int) -> Inputs:
    """Sliding tiles over video tokens in tile order, text behind them."""
    inputs = _attention_inputs(noise, heads, prod(grid) + text)
    return inputs | dict(block_mask=sliding_mask(grid, tile, window, text).to(inputs["q"].device))


def sliding_mask(grid: Triple, tile: Triple, window: Triple, text: int) -> BlockMask:
    """The list has real numbers in it also in a dry run."""
    with unset_fake_temporarily():
        return BlockMask.sliding_tile(grid, tile, window, text)


def _norm_rope_inputs(noise: Callable, heads: int, tokens: int, text: int) -> Inputs:
    inputs = shared.INPUTS["rope_attention"](noise, heads=heads, tokens=tokens, text=text)
    return {name: inputs[name] for name in ("q", "k", "rope", "q_norm", "k_norm", "text_len")}


def _linear_inputs(noise: Callable, rows: int, inner: int, outer: int, epilogue: str = "") -> Inputs:
    inputs = shared.INPUTS["fp8_linear"](noise, rows, inner, outer) | dict(epilogue=epilogue)
    if epilogue == "gate":
        inputs |= dict(gate=noise(1, outer), residual=noise(1, rows, outer))
    return inputs


def _mlp_inputs(noise: Callable, rows: int, inner: int, outer: int) -> Inputs:
    """Inputs of two layers, the second back to the width of the first; x is a residual stream in front of its norm."""
    wide, back = (shared.INPUTS["fp8_linear"](noise, 1, *sizes) for sizes in ((inner, outer), (outer, inner)))
    vectors = {name: noise(1, inner, scale=0.3) for name in ("shift", "scale", "gate")}
    weights = dict(weight=wide["weight"], bias=wide["bias"], weight2=back["weight"], bias2=back["bias"])
    return dict(x=noise(1, rows, inner)) | vectors | weights


def _volume(noise: Callable, channels: int, volume: Triple) -> Tensor:
    """[1, C, T, H, W], channels-last."""
    return noise(1, *volume, channels).permute(0, 4, 1, 2, 3)


def _conv_inputs(noise: Callable, channels: int, out: int, volume: Triple) -> Inputs:
    """A volume that carries its padding, and a residual."""
    padded = tuple(size + extra for size, extra in zip(volume, (2, 2, 2), strict=True))
    weight = noise(out, channels, 3, 3, 3, scale=(27 * channels) ** -0.5)
    x, residual = _volume(noise, channels, padded), _volume(noise, out, volume)
    return dict(x=x, weight=weight, bias=noise(out, scale=0.1), residual=residual)


def _group_norm_inputs(noise: Callable, channels: int, volume: Triple) -> Inputs:
    inputs = shared.INPUTS["group_norm_silu"](noise, channels, (1, 1, 1))
    return inputs | dict(x=_volume(noise, channels, volume))


def _norm_conv_inputs(noise: Callable, channels: int, out: int, volume: Triple) -> Inputs:
    inputs = _conv_inputs(noise, channels, out, volume)
    norm = dict(norm_weight=1 + noise(channels, scale=0.1), norm_bias=noise(channels, scale=0.1))
    return inputs | norm | dict(x=_volume(noise, channels, volume))


INPUTS: dict[str, Callable[..., Inputs]] = {
    "attention": _attention_inputs,
    "attention_fp8": _attention_inputs,
    "attention_sparse": _sparse_inputs,
    "qk_norm_rope": _norm_rope_inputs,
    "rope_attention_fp8": shared.INPUTS["rope_attention"],
    "fp8_gemm": _linear_inputs,
    "fp8_linear": _linear_inputs,
    "fp8_mlp": _mlp_inputs,
    "layer_norm_modulate_fp8": shared.INPUTS["layer_norm_modulate"],
    "conv3d_padded": _conv_inputs,
    "group_norm_silu": _group_norm_inputs,
    "norm_silu_conv3d": _norm_conv_inputs,
}


def _attention_rows(inputs: Inputs) -> Exact:
    """The first query of tiles spread over the sequence; a list names the key blocks of their tiles."""
    q, k, v, mask = inputs["q"], inputs["k"], inputs["v"], inputs.get("block_mask")
    tile = 128 if mask is None else mask.query_tile
    last = (q.shape[1] - 1) // tile
    tiles = sorted({last * i // (SAMPLED_TILES - 1) for i in range(SAMPLED_TILES)})
    rows = [index * tile for index in tiles]
    queries = q[:, rows].double()
    if mask is None:
        return spec.attention_with_lse(queries, k.double(), v.double())[0], lambda output: output[:, rows]
    results = []
    for query, index in zip(queries.split(1, 1), tiles, strict=True):
        keys, values = (named_keys(mask, index, tensor).double() for tensor in (k, v))
        results.append(spec.attention_with_lse(query, keys, values)[0])
    return torch.cat(results, 1), lambda output: output[:, rows]


def named_keys(mask: BlockMask, query_tile: int, keys: Tensor) -> Tensor:  # [B, K, H, D]
    """The keys that a query tile's row of the list names."""
    with unset_fake_temporarily():
        blocks = mask.key_blocks[mask.row_starts[query_tile] : mask.row_starts[query_tile + 1]].cpu()
        tokens = (blocks.long()[:, None] * mask.key_tile + torch.arange(mask.key_tile)).flatten()
        tokens = tokens[tokens < keys.shape[1]].to(keys.device)
    return keys.index_select(1, tokens)


def _norm_rope_rows(inputs: Inputs) -> Exact:
    """The first tokens of q; the output is q and k as one tensor [2, B, H, S, D]."""
    count = 64
    rope = tuple(table[:count].double() for table in inputs["rope"])
    q = spec.qk_norm_rope(inputs["q"][:, :count].double(), rope, inputs["q_norm"].double(), None, 0, 1e-6)
    return q.transpose(1, 2), lambda output: output[0][:, :, :count]


def _linear_rows(inputs: Inputs) -> Exact:
    """The first rows, of the weight before its quantization."""
    count = 64
    out = F.linear(inputs["x"][:, :count].double(), inputs["weight"].double(), inputs["bias"].double())
    if inputs["epilogue"] == "gelu":
        out = F.gelu(out, approximate="tanh")
    if inputs["epilogue"] == "gate":
        out = spec.gate_residual(inputs["residual"][:, :count].double(), out, inputs["gate"].double())
    return out, lambda output: output[:, :count]


def _mlp_rows(inputs: Inputs) -> Exact:
    """The first rows, of the weights before their quantization."""
    count = 64
    wide = {name: value.double() for name, value in inputs.items()}
    x = wide["x"][:, :count]
    hidden = spec.layer_norm_modulate(x, wide["shift"], wide["scale"])
    hidden = F.gelu(F.linear(hidden, wide["weight"], wide["bias"]), approximate="tanh")
    out = spec.gate_residual(x, F.linear(hidden, wide["weight2"], wide["bias2"]), wide["gate"])
    return out, lambda output: output[:, :count]


def _conv_part(inputs: Inputs) -> Exact:
    channels, size = shared.SAMPLED_CHANNELS, 16
    x = inputs["x"][:, :, : 2 + 2, : size + 2, : size + 2].double()
    weight, bias = inputs["weight"][:channels].double(), inputs["bias"][:channels].double()
    out = spec.causal_conv3d(x, weight, bias, padded=True)
    out = out + inputs["residual"][:, :channels, :2, :size, :size].double()
    return out, lambda output: output[:, :channels, :2, :size, :size]


def _norm_conv_part(inputs: Inputs) -> Exact:
    """The norm needs the statistics of whole groups, so of the whole volume: in float64 only where that fits."""
    x, channels, size = inputs["x"], shared.SAMPLED_CHANNELS, 16
    groups = x.unflatten(1, (32, -1)).flatten(2)
    moments = [(group.double().mean(-1), group.double().var(-1, unbiased=False)) for group in groups.split(1, 1)]
    mean, variance = (torch.cat(part, 1).repeat_interleave(x.shape[1] // 32, 1) for part in zip(*moments, strict=True))
    shape = (*mean.shape, 1, 1, 1)
    cut = x[:, :, :2, : size + 1, : size + 1].double()
    cut = (cut - mean.view(shape)) * torch.rsqrt(variance + 1e-6).view(shape)
    affine = (inputs[name].double().view(1, -1, 1, 1, 1) for name in ("norm_weight", "norm_bias"))
    cut = F.silu(cut * next(affine) + next(affine))
    out = spec.causal_conv3d(cut, inputs["weight"][:channels].double(), inputs["bias"][:channels].double())
    out = out[..., :size, :size] + inputs["residual"][:, :channels, :2, :size, :size].double()
    return out, lambda output: output[:, :channels, :2, :size, :size]


REFERENCES: dict[str, Callable[[Inputs], Exact]] = {
    "attention": _attention_rows,
    "attention_fp8": _attention_rows,
    "attention_sparse": _attention_rows,
    "qk_norm_rope": _norm_rope_rows,
    "rope_attention_fp8": lambda inputs: shared.reference_of("rope_attention", inputs),
    "fp8_gemm": _linear_rows,
    "fp8_linear": _linear_rows,
    "fp8_mlp": _mlp_rows,
    "layer_norm_modulate_fp8": lambda inputs: shared.reference_of("layer_norm_modulate", inputs),
    "conv3d_padded": _conv_part,
    "norm_silu_conv3d": _norm_conv_part,
}


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

    def exact(self, inputs: Inputs) -> Exact:
        refer = REFERENCES.get(self.op)
        return refer(inputs) if refer else shared.reference(self.case, inputs)

    def relative_error(self, exact: Exact, output: Tensor | Fp8Rows) -> Tensor:
        """|output - exact| / |exact| over the part that the float64 result is computed of."""
        expected, part = exact
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
