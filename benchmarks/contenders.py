"""Who computes the operations of cases.py: this package, and the ways a peer does it. Peers are run, not copied.

A contender gets the inputs of a case once (`prepare`: weights may be packed or quantized, as when a model is loaded)
and returns the function that is measured.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import hunyuan_ext as ops
from benchmarks.cases import Inputs
from benchmarks.results import OURS
from hunyuan_ext.core.native import slow_bfloat16
from hunyuan_video.models.vae.blocks import upsample_nearest
from hunyuan_video.models.vae.upsample import fold, upsample_conv

Run = Callable[[], Tensor]
FLOOR = "the floor, less work"  # in the name of what computes something else: no peer


@dataclass(frozen=True)
class Contender:
    """needs: the module a peer comes from."""

    name: str
    prepare: Callable[[Inputs], Run]
    needs: str = "torch"

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.needs) is not None


def contenders(op: str, floor: bool = False) -> tuple[Contender, ...]:
    """Everyone who computes an operation, this package first. floor: with what moves its data and computes nothing."""
    return _CONTENDERS[op] + (_FLOORS.get(op, ()) if floor else ())


def _attention_ours(inputs: Inputs) -> Run:
    return lambda: ops.rope_attention(**inputs)


def _attention_diffusers(inputs: Inputs) -> Run:
    """RMSNorm modules, rotary embedding of the video tokens, concatenation, SDPA: the steps of its attention processor.

    It always passes a mask; here only where there is padding, which is faster.
    """
    from diffusers.models.embeddings import apply_rotary_emb
    from diffusers.models.normalization import RMSNorm

    q, k, v, rope, text = (inputs[name] for name in ("q", "k", "v", "rope", "text_len"))
    norms = []
    for weight in (inputs["q_norm"], inputs["k_norm"]):
        norm = RMSNorm(weight.shape[0], eps=1e-6)
        norm.weight = torch.nn.Parameter(weight, requires_grad=False)
        norms.append(norm)
    mask = None
    if inputs["kv_len"] is not None:
        mask = (torch.arange(k.shape[1], device=k.device) < inputs["kv_len"][:, None])[:, None, None]

    def run() -> Tensor:
        heads = []
        for norm, x in zip(norms, (q, k), strict=True):
            x = norm(x.transpose(1, 2))
            video = apply_rotary_emb(x[:, :, : x.shape[2] - text], rope)
            heads.append(torch.cat((video, x[:, :, x.shape[2] - text :]), dim=2))
        return F.scaled_dot_product_attention(*heads, v.transpose(1, 2), mask).transpose(1, 2).flatten(2, 3)

    return lambda: run().unflatten(2, q.shape[2:])


def _attention_sdpa(inputs: Inputs) -> Run:
    """The attention alone, without norm and rotation: less work, another result."""
    heads = [inputs[name].transpose(1, 2).contiguous() for name in "qkv"]
    return lambda: F.scaled_dot_product_attention(*heads).transpose(1, 2)


def _conv_ours(inputs: Inputs) -> Run:
    return lambda: ops.causal_conv3d(**inputs)


def _conv_torch(inputs: Inputs) -> Run:
    x, weight, bias = inputs["x"], inputs["weight"], inputs["bias"]
    return lambda: F.conv3d(F.pad(x, (1, 1, 1, 1, 2, 0), mode="replicate"), weight, bias)


def _upsample_ours(inputs: Inputs) -> Run:
    weights = fold(inputs["weight"], inputs["stride"])
    return lambda: upsample_conv(inputs["x"], weights, inputs["bias"], inputs["stride"])


def _upsample_torch(inputs: Inputs) -> Run:
    """Nearest upsampling (by interpolation, as diffusers does it), replicate padding, convolution."""

    def run() -> Tensor:
        x = F.pad(upsample_nearest(inputs["x"], inputs["stride"]), (1, 1, 1, 1, 2, 0), mode="replicate")
        return F.conv3d(x, inputs["weight"], inputs["bias"])

    return run


def _group_norm_ours(inputs: Inputs) -> Run:
    return lambda: ops.group_norm_silu(**inputs)


def _group_norm_torch(inputs: Inputs) -> Run:
    x, weight, bias, pad = inputs["x"], inputs["weight"], inputs["bias"], inputs["pad"]
    sides = (pad[2], pad[2], pad[1], pad[1], pad[0], 0)
    return lambda: F.pad(F.silu(F.group_norm(x, 32, weight, bias, 1e-6)), sides, mode="replicate")


def _modulate_torch(inputs: Inputs) -> Run:
    x, shift, scale = inputs["x"], inputs["shift"], inputs["scale"]
    return lambda: F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


def _gate_torch(inputs: Inputs) -> Run:
    x, y, gate = inputs["x"], inputs["y"], inputs["gate"]
    return lambda: x + y * gate.unsqueeze(1)


def _copy(inputs: Inputs) -> Run:
    """As many bytes read and written as one pass over x needs; into memory that is there already."""
    x = inputs["x"]
    out = torch.empty_like(x)
    return lambda: out.copy_(x)


def _copy_to_new(inputs: Inputs) -> Run:
    """The same into new memory, whose pages the system may have to make: what an op that returns a tensor can reach."""
    return inputs["x"].clone


def _add_to_new(inputs: Inputs) -> Run:
    x, y = inputs["x"], inputs["y"]
    return lambda: x + y


def _add(inputs: Inputs) -> Run:
    """As many bytes read and written as one pass over x and y needs."""
    x, y = inputs["x"], inputs["y"]
    out = torch.empty_like(x)
    return lambda: torch.add(x, y, out=out)


def _fp8_ours(inputs: Inputs) -> Run:
    weight, scale = ops.quantize_fp8(inputs["weight"])
    return lambda: ops.fp8_linear(inputs["x"], weight, scale, inputs["bias"])


def _fp8_upcast(inputs: Inputs) -> Run:
    """The released program's FP8: the whole weight is widened in every call."""
    weight, scale = ops.quantize_fp8(inputs["weight"])
    x, bias = inputs["x"], inputs["bias"]
    return lambda: F.linear(x, weight.to(x.dtype) * scale.to(x.dtype), bias)


def _linear_torch(inputs: Inputs) -> Run:
    return lambda: F.linear(inputs["x"], inputs["weight"], inputs["bias"])


def _int8_ours(inputs: Inputs) -> Run:
    weight, scale = ops.quantize_int8(inputs["weight"])
    return lambda: ops.int8_linear(inputs["x"], weight, scale, inputs["bias"])


def _gelu_ours(inputs: Inputs) -> Run:
    return lambda: ops.linear(inputs["x"], inputs["weight"], inputs["bias"], activation="gelu_tanh")


def _gelu_torch(inputs: Inputs) -> Run:
    product = _linear_torch(inputs)
    return lambda: F.gelu(product(), approximate="tanh")


def _gelu_packed(inputs: Inputs) -> Run:
    """GELU as torch.compile's freezing makes it: a second copy of the weights, in oneDNN's layout.

    oneDNN packs no bfloat16 on processors without units for it; freezing leaves torch's calls there.
    """
    x, weight, bias = inputs["x"], inputs["weight"], inputs["bias"]
    if slow_bfloat16(weight):
        return _gelu_torch(inputs)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, x.shape[1])
    return lambda: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "gelu", [], "tanh")


_CONTENDERS: dict[str, tuple[Contender, ...]] = {
    "rope_attention": (
        Contender(OURS, _attention_ours),
        Contender("diffusers: RMSNorm, RoPE, SDPA", _attention_diffusers, needs="diffusers"),
        Contender("SDPA alone (less work)", _attention_sdpa),
    ),
    "causal_conv3d": (
        Contender(OURS, _conv_ours),
        Contender("torch: pad, conv3d", _conv_torch),
    ),
    "upsample_conv3d": (
        Contender(OURS, _upsample_ours),
        Contender("torch: interpolate, pad, conv3d", _upsample_torch),
    ),
    "group_norm_silu": (
        Contender(OURS, _group_norm_ours),
        Contender("torch: group_norm, silu, pad", _group_norm_torch),
    ),
    "layer_norm_modulate": (
        Contender(OURS, lambda inputs: lambda: ops.layer_norm_modulate(**inputs)),
        Contender("torch: layer_norm, multiply, add", _modulate_torch),
    ),
    "gate_residual": (
        Contender(OURS, lambda inputs: lambda: ops.gate_residual(**inputs)),
        Contender("torch: multiply, add", _gate_torch),
    ),
    "linear_gelu": (
        Contender(OURS, _gelu_ours),
        Contender("torch: linear, gelu", _gelu_torch),
        Contender("oneDNN: packed weights, fused GELU", _gelu_packed),
    ),
    "int8_linear": (
        Contender(OURS, _int8_ours),
        Contender("torch: bfloat16 linear", _linear_torch),
    ),
    "fp8_linear": (
        Contender(OURS, _fp8_ours),
        Contender("weight widened in every call", _fp8_upcast),
        Contender("torch: bfloat16 linear", _linear_torch),
    ),
}

_FLOORS = {
    "layer_norm_modulate": (
        Contender(f"copy ({FLOOR})", _copy),
        Contender("copy into new memory (less work)", _copy_to_new),
    ),
    "gate_residual": (
        Contender(f"add ({FLOOR})", _add),
        Contender("add into new memory (less work)", _add_to_new),
    ),
    "linear_gelu": (Contender(f"linear without GELU ({FLOOR})", _linear_torch),),
}
