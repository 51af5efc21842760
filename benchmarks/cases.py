"""The operations and sizes that are compared, shared by the CPU suite (cpu/test_kernels.py) and the GPU table (gpu/).

`CASES` says what is measured where, `make_inputs` makes the tensors of a case (the same for every contender, see
contenders.py), and `reference` the float64 result of a part of the output that is small enough to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from benchmarks.results import TBS, TFLOPS
from hunyuan_ext import reference as spec
from hunyuan_video.models import rope_table

Inputs = dict[str, Any]
BOTH = ("bfloat16", "float32")
CONV_PAD = (2, 1, 1)  # what a causal 3x3x3 convolution reads beyond its output
ROPE_DIMS = {128: (16, 56, 56), 64: (8, 28, 28), 32: (8, 12, 12)}
SAMPLED_ROWS = 64  # of an attention output, checked against float64
SAMPLED_CHANNELS = 8  # of a convolution's or matrix product's output


@dataclass(frozen=True)
class Case:
    """One operation at one size. sizes: the dimensions by name, see the input functions below."""

    op: str
    name: str
    sizes: Mapping[str, Any] = field(hash=False)
    dtypes: tuple[str, ...] = BOTH
    devices: tuple[str, ...] = ("cpu", "cuda")
    quick: bool = False  # small enough for --quick and the tests


def _case(op: str, name: str, *, dtypes=BOTH, devices=("cpu", "cuda"), quick=False, **sizes: Any) -> Case:
    return Case(op, name, MappingProxyType(sizes), tuple(dtypes), tuple(devices), quick)


CPU, CUDA, BF16 = ("cpu",), ("cuda",), ("bfloat16",)
CASES: tuple[Case, ...] = (
    # Tokens: video and 256 of text. 4 heads: the mini model; 24: the released one (119056: 720p, 129 frames).
    _case("rope_attention", "H4 S64", heads=4, tokens=64, text=16, devices=CPU, quick=True),
    _case("rope_attention", "H4 S1024", heads=4, tokens=1024, text=256),
    _case("rope_attention", "H4 S2560", heads=4, tokens=2560, text=256, devices=CPU),
    _case("rope_attention", "H4 S2560, 64 text tokens", heads=4, tokens=2560, text=256, valid=64, devices=CPU),
    _case("rope_attention", "H4 S8192", heads=4, tokens=8192, text=256),
    _case("rope_attention", "H4 S16384", heads=4, tokens=16384, text=256, devices=CPU, dtypes=BF16),
    _case("rope_attention", "H24 S1024", heads=24, tokens=1024, text=256, devices=CPU),
    _case("rope_attention", "H24 S4096", heads=24, tokens=4096, text=256),
    _case("rope_attention", "H24 S16384", heads=24, tokens=16384, text=256, devices=CUDA),
    _case("rope_attention", "H24 S32768", heads=24, tokens=32768, text=256, devices=CUDA, dtypes=BF16),
    _case("rope_attention", "H24 S119056", heads=24, tokens=119056, text=256, devices=CUDA, dtypes=BF16),
    _case("causal_conv3d", "8ch 2x8x8", channels=8, out=8, volume=(2, 8, 8), devices=CPU, quick=True),
    _case("causal_conv3d", "128ch 5x128x128", channels=128, out=128, volume=(5, 128, 128)),
    _case("causal_conv3d", "256ch 5x64x64", channels=256, out=256, volume=(5, 64, 64)),
    _case("causal_conv3d", "512ch 5x32x32", channels=512, out=512, volume=(5, 32, 32)),
    _case("causal_conv3d", "128ch 5x128x128, channels last", channels=128, out=128, volume=(5, 128, 128), last=True),
    _case("causal_conv3d", "512ch 5x32x32, channels last", channels=512, out=512, volume=(5, 32, 32), last=True),
    _case("causal_conv3d", "128ch 17x256x256", channels=128, out=128, volume=(17, 256, 256), devices=CUDA, dtypes=BF16),
    _case("upsample_conv3d", "256ch 5x32x32 doubled", channels=256, volume=(5, 32, 32), stride=(2, 2, 2), devices=CPU),
    _case("group_norm_silu", "64ch 2x8x8", channels=64, volume=(2, 8, 8), devices=CPU, quick=True),
    _case("group_norm_silu", "128ch 5x128x128", channels=128, volume=(5, 128, 128)),
    _case("group_norm_silu", "512ch 9x64x64", channels=512, volume=(9, 64, 64)),
    _case("layer_norm_modulate", "64x128", tokens=64, width=128, devices=CPU, quick=True),
    _case("layer_norm_modulate", "4096x512", tokens=4096, width=512),
    _case("layer_norm_modulate", "4096x3072", tokens=4096, width=3072),
    _case("layer_norm_modulate", "119056x3072", tokens=119056, width=3072, devices=CUDA, dtypes=BF16),
    _case("gate_residual", "64x128", tokens=64, width=128, devices=CPU, quick=True),
    _case("gate_residual", "4096x512", tokens=4096, width=512),
    _case("gate_residual", "4096x3072", tokens=4096, width=3072),
    _case("gate_residual", "119056x3072", tokens=119056, width=3072, devices=CUDA, dtypes=BF16),
    # rows x in x out, then GELU
    _case("linear_gelu", "16x128x128", rows=16, inner=128, outer=128, devices=CPU, quick=True),
    _case("linear_gelu", "576x512x2048", rows=576, inner=512, outer=2048, devices=CPU),
    _case("linear_gelu", "2560x512x2048", rows=2560, inner=512, outer=2048, devices=CPU),
    _case("linear_gelu", "1024x3072x12288", rows=1024, inner=3072, outer=12288, devices=CPU, dtypes=BF16),
    _case("int8_linear", "16x128x128", rows=16, inner=128, outer=128, dtypes=BF16, devices=CPU, quick=True),
    _case("int8_linear", "576x512x2048", rows=576, inner=512, outer=2048, dtypes=BF16, devices=CPU),
    _case("int8_linear", "1024x3072x3072", rows=1024, inner=3072, outer=3072, dtypes=BF16, devices=CPU),
    # rows x in x out
    _case("fp8_linear", "16x128x128", rows=16, inner=128, outer=128, dtypes=BF16, devices=CPU, quick=True),
    _case("fp8_linear", "1024x3072x3072", rows=1024, inner=3072, outer=3072, dtypes=BF16),
    _case("fp8_linear", "256x3072x3072", rows=256, inner=3072, outer=3072, dtypes=BF16, devices=CPU),
    _case("fp8_linear", "1x3072x18432", rows=1, inner=3072, outer=18432, dtypes=BF16),
    _case("fp8_linear", "16384x3072x12288", rows=16384, inner=3072, outer=12288, dtypes=BF16, devices=CUDA),
    _case("fp8_linear", "119056x3072x12288", rows=119056, inner=3072, outer=12288, dtypes=BF16, devices=CUDA),
)  # fmt: skip


def cases(device: str, quick: bool = False) -> Iterator[tuple[Case, str]]:
    """(case, dtype name) of everything that is measured on "cpu" or "cuda"; quick: the tiny cases alone."""
    for case in CASES:
        if device in case.devices and case.quick == quick:
            yield from ((case, dtype) for dtype in case.dtypes)


def make_inputs(case: Case, dtype: str, device: str = "cpu", seed: int = 0) -> Inputs:
    """The tensors of a case, by argument name, from a seed: the same for every contender."""
    return INPUTS[case.op](noise_source(dtype, device, seed), **case.sizes)


def noise_source(dtype: str, device: str = "cpu", seed: int = 0) -> Callable[..., Tensor]:
    """A function that draws normal values of a shape, in turn, on the device: gigabytes would take a CPU seconds."""
    generator = torch.Generator(device).manual_seed(seed)

    def noise(*shape: int, scale: float = 1.0, to: str = dtype) -> Tensor:
        return (torch.randn(shape, generator=generator, device=device) * scale).to(getattr(torch, to))

    return noise


def _attention(noise: Callable, heads: int, tokens: int, text: int, head_dim: int = 128, valid: int | None = None):
    """valid: text tokens that are not padding, all by default."""
    video = tokens - text
    grid = next((video // (side * side), side, side) for side in (48, 32, 16, 8, 4, 2, 1) if video % (side * side) == 0)
    like = noise(1)
    rope = tuple(table.to(like.device) for table in rope_table(grid, dims=ROPE_DIMS[head_dim], theta=256.0))
    q, k, v = (noise(1, tokens, heads, head_dim) for _ in range(3))
    norms = [1 + noise(head_dim, scale=0.1) for _ in range(2)]
    length = None if valid is None else torch.tensor([video + valid], dtype=torch.int32, device=like.device)
    return dict(q=q, k=k, v=v, rope=rope, q_norm=norms[0], k_norm=norms[1], text_len=text, kv_len=length)


def _conv(noise: Callable, channels: int, out: int, volume: tuple[int, int, int], last: bool = False):
    """last: channels last, of the input and of the weight."""
    x, weight = noise(1, channels, *volume), noise(out, channels, 3, 3, 3, scale=(27 * channels) ** -0.5)
    if last:
        x, weight = (tensor.to(memory_format=torch.channels_last_3d) for tensor in (x, weight))
    return dict(x=x, weight=weight, bias=noise(out, scale=0.1))


def _upsample(noise: Callable, channels: int, volume: tuple[int, int, int], stride: tuple[int, int, int]):
    return dict(_conv(noise, channels, channels, volume), stride=stride)


def _group_norm(noise: Callable, channels: int, volume: tuple[int, int, int]):
    weight, bias = 1 + noise(channels, scale=0.1), noise(channels, scale=0.1)
    return dict(x=noise(1, channels, *volume), weight=weight, bias=bias, pad=CONV_PAD)


def _modulate(noise: Callable, tokens: int, width: int):
    return dict(x=noise(1, tokens, width), shift=noise(1, width), scale=noise(1, width))


def _gate(noise: Callable, tokens: int, width: int):
    return dict(x=noise(1, tokens, width), y=noise(1, tokens, width), gate=noise(1, width))


def _linear(noise: Callable, rows: int, inner: int, outer: int):
    return dict(x=noise(1, rows, inner), weight=noise(outer, inner, scale=inner**-0.5), bias=noise(outer, scale=0.1))


INPUTS: dict[str, Callable[..., Inputs]] = {
    "rope_attention": _attention,
    "causal_conv3d": _conv,
    "upsample_conv3d": _upsample,
    "group_norm_silu": _group_norm,
    "layer_norm_modulate": _modulate,
    "gate_residual": _gate,
    "linear_gelu": _linear,
    "int8_linear": _linear,
    "fp8_linear": _linear,
}


def work(op: str, dtype: str, sizes: Mapping[str, Any]) -> tuple[float, str] | None:
    """FLOP and "TFLOP/s", or bytes and "TB/s": what an operation must do, whoever does it, and the unit of its rate.

    FLOP of the products, or bytes read and written once.
    """
    if op not in WORK:
        return None
    function, unit = WORK[op]
    return function(**sizes, each=getattr(torch, dtype).itemsize), unit


def attention_flops(heads: int, tokens: int, head_dim: int = 128, batch: int = 1, **_: Any) -> float:
    return 4.0 * batch * heads * tokens**2 * head_dim


def linear_flops(rows: int, inner: int, outer: int, **_: Any) -> float:
    return 2.0 * rows * inner * outer


def conv_flops(channels: int, out: int, volume: tuple[int, int, int], **_: Any) -> float:
    return 2.0 * 27 * channels * out * prod(volume)


def _group_norm_bytes(channels: int, volume: tuple[int, int, int], each: int) -> float:
    """Read for the statistics, read again, written with its padding: what a volume larger than the cache costs."""
    extra = CONV_PAD[0], 2 * CONV_PAD[1], 2 * CONV_PAD[2]
    padded = prod(size + more for size, more in zip(volume, extra, strict=True))
    return float(each) * channels * (2 * prod(volume) + padded)


WORK: dict[str, tuple[Callable[..., float], str]] = {
    "rope_attention": (attention_flops, TFLOPS),
    "causal_conv3d": (conv_flops, TFLOPS),
    "group_norm_silu": (_group_norm_bytes, TBS),
    "layer_norm_modulate": (lambda tokens, width, each: 2.0 * each * tokens * width, TBS),
    "gate_residual": (lambda tokens, width, each: 3.0 * each * tokens * width, TBS),
    "linear_gelu": (linear_flops, TFLOPS),
    "int8_linear": (linear_flops, TFLOPS),
    "fp8_linear": (linear_flops, TFLOPS),
}


def max_errors(case: Case, inputs: Inputs, outputs: Mapping[str, Tensor]) -> dict[str, float]:
    """Largest absolute difference of outputs from the float64 result, over the part that `reference` computes."""
    expected, part = reference(case, inputs)
    return {name: float((part(output).double() - expected).abs().max()) for name, output in outputs.items()}


def reference(case: Case, inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The float64 result of a part of the output, on its device, and the function that takes this part of an output."""
    return reference_of(case.op, inputs)


def reference_of(op: str, inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    return REFERENCES[op]({name: _widened(value) for name, value in inputs.items()})


def _widened(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_widened(item) for item in value)
    if not isinstance(value, Tensor):
        return value
    return value.double() if value.is_floating_point() else value


def _attention_rows(inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Some video rows and the first text rows: padded text rows have no meaning."""
    q, text = inputs["q"], inputs["text_len"]
    video = q.shape[1] - text
    spread = {(video - 1) * i // (SAMPLED_ROWS - 9) for i in range(SAMPLED_ROWS - 8)}
    rows = [*sorted(spread), *range(video, min(video + 8, q.shape[1]))]
    q = spec.qk_norm_rope(q, inputs["rope"], inputs["q_norm"], None, text, 1e-6)[:, rows]
    k = spec.qk_norm_rope(inputs["k"], inputs["rope"], inputs["k_norm"], None, text, 1e-6)
    out, _ = spec.attention_with_lse(q, k, inputs["v"], kv_len=inputs["kv_len"])
    return out, lambda output: output[:, rows]


def _conv_channels(inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Some output channels of the first frames, rows and columns, borders included."""
    x, channels = inputs["x"][:, :, :2, :24, :24], SAMPLED_CHANNELS
    stride = inputs.get("stride", (1, 1, 1))
    inner = [stride[0] * (x.shape[2] - 1) + 1, *(s * size for s, size in zip(stride[1:], x.shape[3:], strict=True))]
    rows, columns = (size - 1 for size in inner[1:])  # the last ones of the cut lack a neighbor
    if stride != (1, 1, 1):
        x = torch.cat((x[:, :, :1], x[:, :, 1:].repeat_interleave(stride[0], 2)), 2)
        x = x.repeat_interleave(stride[1], 3).repeat_interleave(stride[2], 4)
    out = spec.causal_conv3d(x, inputs["weight"][:channels], inputs["bias"][:channels])
    frames = out.shape[2]
    return out[..., :rows, :columns], lambda output: output[:, :channels, :frames, :rows, :columns]


def _norm_channels(inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The first of 32 groups, padding included."""
    width = inputs["x"].shape[1] // 32
    affine = inputs["weight"][:width], inputs["bias"][:width]
    out = spec.group_norm_silu(inputs["x"][:, :width], *affine, groups=1, pad=inputs["pad"])
    return out, lambda output: output[:, :width]


def _all_of(function: Callable[..., Tensor]) -> Callable:
    return lambda inputs: (function(**inputs), lambda output: output)


def _linear_channels(inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    x, weight, bias = inputs["x"], inputs["weight"][:SAMPLED_CHANNELS], inputs["bias"][:SAMPLED_CHANNELS]
    return torch.nn.functional.linear(x, weight, bias), lambda output: output[..., :SAMPLED_CHANNELS]


def _gelu_channels(inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    product, part = _linear_channels(inputs)
    return torch.nn.functional.gelu(product, approximate="tanh"), part


REFERENCES: dict[str, Callable] = {
    "rope_attention": _attention_rows,
    "causal_conv3d": _conv_channels,
    "upsample_conv3d": _conv_channels,
    "group_norm_silu": _norm_channels,
    "layer_norm_modulate": _all_of(spec.layer_norm_modulate),
    "gate_residual": _all_of(spec.gate_residual),
    "linear_gelu": _gelu_channels,
    "int8_linear": _linear_channels,  # of the weight before its quantization
    "fp8_linear": _linear_channels,  # of the weight before its quantization
}
