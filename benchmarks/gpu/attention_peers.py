"""Ways to compute attention, and the norm and rotation before it: ours and the peers'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend

from benchmarks.cases import Inputs
from benchmarks.contenders import Contender, Run
from benchmarks.gpu.calls import EPS, FP8, FP8_MAX, backend, compiled
from hunyuan_ext import reference as spec

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
