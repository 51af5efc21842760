"""Inputs of the cases that only the GPU table has, and their float64 results (of a part of the output)."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

from benchmarks import cases as shared
from benchmarks.cases import Inputs
from hunyuan_ext import BlockMask
from hunyuan_ext import reference as spec

Triple = tuple[int, int, int]
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


def _attention_rows(inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The first query of tiles spread over the sequence; a list names the key blocks of their tiles."""
    q, k, v, mask = inputs["q"], inputs["k"], inputs["v"], inputs.get("block_mask")
    tile = 128 if mask is None else mask.query_tile
    last, results = (q.shape[1] - 1) // tile, []
    tiles = sorted({last * i // (SAMPLED_TILES - 1) for i in range(SAMPLED_TILES)})
    for index in tiles:
        keys, values = (k, v) if mask is None else (named_keys(mask, index, tensor) for tensor in (k, v))
        query = q[:, index * tile : index * tile + 1]
        results.append(spec.attention_with_lse(query.double(), keys.double(), values.double())[0])
    rows = [index * tile for index in tiles]
    return torch.cat(results, 1), lambda output: output[:, rows]


def named_keys(mask: BlockMask, query_tile: int, keys: Tensor) -> Tensor:  # [B, K, H, D]
    """The keys that a query tile's row of the list names."""
    with unset_fake_temporarily():
        blocks = mask.key_blocks[mask.row_starts[query_tile] : mask.row_starts[query_tile + 1]].tolist()
    return torch.cat([keys[:, block * mask.key_tile : (block + 1) * mask.key_tile] for block in blocks], 1)


def _norm_rope_rows(inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The first tokens of q; the output is q and k as one tensor [2, B, H, S, D]."""
    count = 64
    rope = tuple(table[:count].double() for table in inputs["rope"])
    q = spec.qk_norm_rope(inputs["q"][:, :count].double(), rope, inputs["q_norm"].double(), None, 0, 1e-6)
    return q.transpose(1, 2), lambda output: output[0][:, :, :count]


def _linear_rows(inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The first rows, of the weight before its quantization."""
    count = 64
    out = F.linear(inputs["x"][:, :count].double(), inputs["weight"].double(), inputs["bias"].double())
    if inputs["epilogue"] == "gelu":
        out = F.gelu(out, approximate="tanh")
    if inputs["epilogue"] == "gate":
        out = spec.gate_residual(inputs["residual"][:, :count].double(), out, inputs["gate"].double())
    return out, lambda output: output[:, :count]


def _mlp_rows(inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The first rows, of the weights before their quantization."""
    count = 64
    wide = {name: value.double() for name, value in inputs.items()}
    x = wide["x"][:, :count]
    hidden = spec.layer_norm_modulate(x, wide["shift"], wide["scale"])
    hidden = F.gelu(F.linear(hidden, wide["weight"], wide["bias"]), approximate="tanh")
    out = spec.gate_residual(x, F.linear(hidden, wide["weight2"], wide["bias2"]), wide["gate"])
    return out, lambda output: output[:, :count]


def _conv_part(inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    channels, size = shared.SAMPLED_CHANNELS, 16
    x = inputs["x"][:, :, : 2 + 2, : size + 2, : size + 2].double()
    weight, bias = inputs["weight"][:channels].double(), inputs["bias"][:channels].double()
    out = spec.causal_conv3d(x, weight, bias, padded=True)
    out = out + inputs["residual"][:, :channels, :2, :size, :size].double()
    return out, lambda output: output[:, :channels, :2, :size, :size]


def _norm_conv_part(inputs: Inputs) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
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


REFERENCES: dict[str, Callable[[Inputs], tuple[Tensor, Callable[[Tensor], Tensor]]]] = {
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
