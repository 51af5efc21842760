"""Ways to compute linear layers, convolutions and norms: ours and the peers'."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import hunyuan_ext as ops
from benchmarks.cases import CONV_PAD, Inputs
from benchmarks.contenders import Run
from benchmarks.gpu.calls import EPS, FP8, FP8_MAX, compiled
from benchmarks.machine import scaled_mm
from hunyuan_ext import reference as spec

LAST = torch.channels_last_3d


def linear_ours(inputs: Inputs) -> Run:
    weight, scale = ops.quantize_fp8(inputs["weight"])
    options = dict(activation="gelu_tanh") if inputs["epilogue"] == "gelu" else {}
    options |= {name: inputs[name] for name in ("gate", "residual") if name in inputs}
    return lambda: ops.fp8_linear(inputs["x"], weight, scale, inputs["bias"], **options)


def epilogue(out: Tensor, kind: str, gate: Tensor | None, residual: Tensor | None) -> Tensor:
    if kind == "gelu":
        return F.gelu(out, approximate="tanh")
    return out if gate is None else residual + gate[:, None] * out


def rowwise(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = x.abs().amax(-1, keepdim=True).float().clamp_min(1e-12) / FP8_MAX
    return (x / scale).clamp(-FP8_MAX, FP8_MAX).to(FP8), scale


def tensorwise(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = x.abs().amax().float().clamp_min(1e-12) / FP8_MAX
    return (x / scale).clamp(-FP8_MAX, FP8_MAX).to(FP8), scale


def scaled_layer(quantize: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[Inputs], Run]:
    """torch's product; quantization of x and the epilogue are compiled kernels of their own."""

    def prepare(inputs: Inputs) -> Run:
        x, shape = inputs["x"].flatten(0, 1), (*inputs["x"].shape[:2], inputs["weight"].shape[0])
        weight, weight_scale = scaled_weight(inputs["weight"], quantize)
        pack, finish = compiled(quantize, x), compiled(epilogue, x)
        gate, residual, plain = inputs.get("gate"), inputs.get("residual"), not inputs["epilogue"]

        def run() -> Tensor:
            codes, scale = pack(x)
            out = scaled_mm(codes, weight, scale, weight_scale, inputs["bias"]).view(shape)
            return out if plain else finish(out, inputs["epilogue"], gate, residual)

        return run

    return prepare


def scaled_weight(weight: Tensor, quantize: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    codes, scale = quantize(weight)
    return codes.t(), scale.t() if scale.ndim else scale


def product_ours(inputs: Inputs) -> Run:
    """Product of rows that are quantized already, as layer_norm_modulate_fp8 leaves them."""
    weight, scale = ops.quantize_fp8(inputs["weight"])
    codes, row_scale = rowwise(inputs["x"])
    rows = ops.Fp8Rows(codes, row_scale.flatten())
    return lambda: ops.fp8_linear(rows, weight, scale, inputs["bias"])


def scaled_product(quantize: Callable[[Tensor], tuple[Tensor, Tensor]], fast: bool = True) -> Callable[[Inputs], Run]:
    """torch's product alone, of x that is quantized already."""

    def prepare(inputs: Inputs) -> Run:
        weight, weight_scale = scaled_weight(inputs["weight"], quantize)
        codes, scale = quantize(inputs["x"].flatten(0, 1))
        return lambda: scaled_mm(codes, weight, scale, weight_scale, inputs["bias"], fast)[None]

    return prepare


def linear_bf16(inputs: Inputs) -> Run:
    finish, gate, residual = compiled(epilogue, inputs["x"]), inputs.get("gate"), inputs.get("residual")
    return lambda: finish(
        F.linear(inputs["x"], inputs["weight"], inputs["bias"]), inputs["epilogue"], gate, residual
    )  # fmt: skip


def modulate_fp8(inputs: Inputs) -> Run:
    """Norm, modulation, codes and scales in one pass; decoded only to be checked."""
    x, shift, scale = (inputs[name] for name in ("x", "shift", "scale"))
    return lambda: ops.Fp8Rows(*torch.ops.hunyuan_ext.layer_norm_modulate_fp8(x, shift, scale, EPS))


def modulate_then_quantize(inputs: Inputs) -> Run:
    """torch.compile's kernel of the norm and the quantization together."""

    def both(x: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return rowwise(spec.layer_norm_modulate(x, shift, scale, eps=EPS))

    call, arguments = compiled(both, inputs["x"]), [inputs[name] for name in ("x", "shift", "scale")]

    def run() -> ops.Fp8Rows:
        codes, row_scale = call(*arguments)
        return ops.Fp8Rows(codes, row_scale.flatten())

    return run


def mlp_ours(inputs: Inputs) -> Run:
    """Norm to FP8, GELU layer to FP8, second layer with gate and residual: three kernels."""
    weights = ops.quantize_fp8(inputs["weight"]), ops.quantize_fp8(inputs["weight2"])
    x, gate, biases = inputs["x"], inputs["gate"], (inputs["bias"], inputs["bias2"])

    def run() -> Tensor:
        rows = ops.layer_norm_modulate_fp8(x, inputs["shift"], inputs["scale"])
        rows = ops.fp8_linear_fp8(rows, *weights[0], biases[0], activation="gelu_tanh")
        return ops.fp8_linear(rows, *weights[1], biases[1], gate=gate, residual=x)

    return run


def mlp_scaled_mm(inputs: Inputs) -> Run:
    """torch's row-wise products; what is between them is compiled."""
    first, second = (scaled_weight(inputs[name], rowwise) for name in ("weight", "weight2"))
    x, gate, biases = inputs["x"], inputs["gate"], (inputs["bias"], inputs["bias2"])
    norm = compiled(lambda x, shift, scale: rowwise(spec.layer_norm_modulate(x, shift, scale)[0]), x)
    middle = compiled(lambda x: rowwise(F.gelu(x, approximate="tanh")), x)
    finish = compiled(lambda x, y: x + gate[:, None] * y, x)

    def run() -> Tensor:
        codes, scale = norm(x, inputs["shift"], inputs["scale"])
        codes, scale = middle(scaled_mm(codes, first[0], scale, first[1], biases[0]))
        return finish(x, scaled_mm(codes, second[0], scale, second[1], biases[1])[None])

    return run


def mlp_bf16(inputs: Inputs) -> Run:
    def both(x: Tensor) -> Tensor:
        hidden = spec.layer_norm_modulate(x, inputs["shift"], inputs["scale"])
        hidden = F.gelu(F.linear(hidden, inputs["weight"], inputs["bias"]), approximate="tanh")
        return spec.gate_residual(x, F.linear(hidden, inputs["weight2"], inputs["bias2"]), inputs["gate"])

    call = compiled(both, inputs["x"])
    return lambda: call(inputs["x"])


def conv_ours(inputs: Inputs) -> Run:
    weight = inputs["weight"].to(memory_format=LAST)
    return lambda: ops.causal_conv3d(
        inputs["x"], weight, inputs["bias"], residual=inputs["residual"], padded=True
    )  # fmt: skip


def conv_cudnn(layout: torch.memory_format) -> Callable[[Inputs], Run]:
    def prepare(inputs: Inputs) -> Run:
        x, weight, residual = (inputs[name].contiguous(memory_format=layout) for name in ("x", "weight", "residual"))
        return lambda: F.conv3d(x, weight, inputs["bias"]).add_(residual)

    return prepare


def norm_conv_ours(inputs: Inputs) -> Run:
    weight = inputs["weight"].to(memory_format=LAST)

    def run() -> Tensor:
        x = ops.group_norm_silu(inputs["x"], inputs["norm_weight"], inputs["norm_bias"], pad=CONV_PAD)
        return ops.causal_conv3d(x, weight, inputs["bias"], residual=inputs["residual"], padded=True)

    return run


def norm_conv_torch(layout: torch.memory_format, compile_it: bool = False) -> Callable[[Inputs], Run]:
    def prepare(inputs: Inputs) -> Run:
        x, weight, residual = (inputs[name].contiguous(memory_format=layout) for name in ("x", "weight", "residual"))

        def chain(x: Tensor, residual: Tensor) -> Tensor:
            x = F.silu(F.group_norm(x, 32, inputs["norm_weight"], inputs["norm_bias"], EPS))
            x = F.pad(x, (1, 1, 1, 1, 2, 0), mode="replicate")
            return F.conv3d(x, weight, inputs["bias"]) + residual

        call = compiled(chain, x) if compile_it else chain
        return lambda: call(x, residual)

    return prepare


def compiled_reference(function: Callable[..., Tensor]) -> Callable[[Inputs], Run]:
    def prepare(inputs: Inputs) -> Run:
        call = compiled(function, inputs["x"])
        return lambda: call(**inputs)

    return prepare


def group_norm_contiguous(inputs: Inputs) -> Run:
    x = inputs["x"].contiguous()
    return lambda: spec.group_norm_silu(x, inputs["weight"], inputs["bias"], pad=inputs["pad"])
