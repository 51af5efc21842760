"""Ways to compute the cases of the GPU table: ours and the peers'. Off a GPU nothing is compiled, no backend forced."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import hunyuan_ext as ops
from benchmarks.cases import CONV_PAD, Inputs
from benchmarks.contenders import Contender, Run
from benchmarks.machine import scaled_mm
from hunyuan_ext import reference as spec

FP8 = torch.float8_e4m3fn
FP8_MAX = 448.0
EPS = 1e-6


def compiled(function: Callable[..., Any], like: Tensor) -> Callable[..., Any]:
    return torch.compile(function) if like.is_cuda else function


def backend(choice: SDPBackend, like: Tensor) -> contextlib.AbstractContextManager[Any]:
    return sdpa_kernel(choice) if like.is_cuda else contextlib.nullcontext()


NO_BLOCKS = (None, None, 0, 0)


def attention_ours(inputs: Inputs) -> Run:
    """The library op, which has a kernel for fake tensors."""
    heads = [inputs[name].transpose(1, 2) for name in "qkv"]
    mask, scale = inputs.get("block_mask"), heads[0].shape[-1] ** -0.5
    blocks = NO_BLOCKS
    if mask is not None:
        blocks = (mask.row_starts, mask.key_blocks, mask.query_tile, mask.key_tile)
    return lambda: torch.ops.hunyuan_ext.attention(*heads, None, *blocks, scale)[0]


def attention_fp8_ours(inputs: Inputs) -> Run:
    """Norm and rotation, where the case has them, and the quantization are in the call."""
    qkv, (cos, sin) = [inputs[name] for name in "qkv"], inputs.get("rope", (None, None))
    before = inputs.get("q_norm"), inputs.get("k_norm"), None, None, cos, sin, inputs.get("text_len", 0), EPS
    scale = qkv[0].shape[-1] ** -0.5
    return lambda: torch.ops.hunyuan_ext.rope_attention_fp8(*qkv, *before, None, *NO_BLOCKS, scale)


def attention_fp8_two_passes(inputs: Inputs) -> Run:
    """Norm and rotation write bf16, the quantization reads it."""
    norm_rope, v = norm_rope_ours(inputs), inputs["v"]
    bare, scale = (*[None] * 6, 0, EPS, None, *NO_BLOCKS), v.shape[-1] ** -0.5

    def run() -> Tensor:
        q, k = (x.transpose(1, 2) for x in norm_rope())
        return torch.ops.hunyuan_ext.rope_attention_fp8(q, k, v, *bare, scale)

    return run


def sdpa(choice: SDPBackend) -> Callable[[Inputs], Run]:
    def prepare(inputs: Inputs) -> Run:
        heads = [inputs[name].transpose(1, 2).contiguous() for name in "qkv"]

        def run() -> Tensor:
            with backend(choice, heads[0]):
                return F.scaled_dot_product_attention(*heads).transpose(1, 2)

        return run

    return prepare


def _first(result: Any) -> Tensor:
    return result[0] if isinstance(result, tuple) else result


def flash3(inputs: Inputs) -> Run:
    from flash_attn_interface import flash_attn_func

    q, k, v = (inputs[name].contiguous() for name in "qkv")
    return lambda: _first(flash_attn_func(q, k, v))


def flash3_fp8(inputs: Inputs) -> Run:
    """Scales of whole heads; quantized before the measurement, which ours is not."""
    from flash_attn_interface import flash_attn_func

    scales = [inputs[name].float().abs().amax((1, 3)) / FP8_MAX for name in "qkv"]  # [B, H]
    codes = [
        (inputs[name] / scale[:, None, :, None]).clamp(-FP8_MAX, FP8_MAX).to(FP8)
        for name, scale in zip("qkv", scales, strict=True)
    ]
    names = ("q_descale", "k_descale", "v_descale")
    return lambda: _first(flash_attn_func(*codes, **dict(zip(names, scales, strict=True))))


def flash4(inputs: Inputs) -> Run:
    from flash_attn.cute import flash_attn_func

    q, k, v = (inputs[name].contiguous() for name in "qkv")
    return lambda: _first(flash_attn_func(q, k, v))


CUDNN = Contender("SDPA cuDNN", sdpa(SDPBackend.CUDNN_ATTENTION))
FLASH = Contender("SDPA flash", sdpa(SDPBackend.FLASH_ATTENTION))
FLASH3 = Contender("FA3", flash3, needs="flash_attn_interface")
FLASH4 = Contender("FA4", flash4, needs="flash_attn.cute")


def norm_rope_ours(inputs: Inputs) -> Run:
    q, k, (cos, sin) = inputs["q"], inputs["k"], inputs["rope"]
    norms = inputs["q_norm"], inputs["k_norm"], None, None
    return lambda: torch.ops.hunyuan_ext.qk_norm_rope(q, k, *norms, cos, sin, inputs["text_len"], EPS)


def norm_rope_torch(inputs: Inputs) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    rope, text = inputs["rope"], inputs["text_len"]

    def both(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        q = spec.qk_norm_rope(q, rope, inputs["q_norm"], None, text, EPS)
        k = spec.qk_norm_rope(k, rope, inputs["k_norm"], None, text, EPS)
        return q.transpose(1, 2).contiguous(), k.transpose(1, 2).contiguous()

    return both


def norm_rope(compile_it: bool) -> Callable[[Inputs], Run]:
    def prepare(inputs: Inputs) -> Run:
        both = norm_rope_torch(inputs)
        call = compiled(both, inputs["q"]) if compile_it else both
        return lambda: call(inputs["q"], inputs["k"])

    return prepare


def compiled_rope_attention(inputs: Inputs) -> Run:
    call, v = compiled(norm_rope_torch(inputs), inputs["q"]), inputs["v"].transpose(1, 2).contiguous()

    def run() -> Tensor:
        with backend(SDPBackend.CUDNN_ATTENTION, v):
            return F.scaled_dot_product_attention(*call(inputs["q"], inputs["k"]), v).transpose(1, 2)

    return run


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
