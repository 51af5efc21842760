"""The decoder of Llama-type language models, as the source of text features: no generation, no cache, no output head.

Attribute names are the key names of Hugging Face's `LlamaModel`, so its weights load strictly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hunyuan_video.models.transformer.modulation import near
from hunyuan_video.phases import tell
from hunyuan_video.rules import check_field_types

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
         "num_key_value_heads", "head_dim")  # fmt: skip
ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a Llama decoder; field names and defaults are those of Hugging Face's config.json.

    rope_scaling: {"rope_type": "default" | "linear" | "llama3", ...}, with `factor` and, for llama3, `low_freq_factor`,
    `high_freq_factor` and `original_max_position_embeddings`.
    """

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] = field(default_factory=dict)
    attention_bias: bool = False
    mlp_bias: bool = False

    def __post_init__(self) -> None:
        check_field_types(self, SIZES)
        if self.num_attention_heads % self.kv_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is no multiple of num_key_value_heads {self.kv_heads}"
            )
        if self.rope_type not in ROPE_TYPES:
            raise ValueError(f"rope_scaling type {self.rope_type!r} is not one of {', '.join(ROPE_TYPES)}")

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> LlamaConfig:
        """From the parsed config.json of transformers 4 (`rope_theta`, `rope_scaling`) or 5 (`rope_parameters`).

        Raises ValueError for what this decoder does not compute (another activation, another rope scaling), TypeError
        for values of the wrong type.
        """
        if config.get("hidden_act", "silu") != "silu":
            raise ValueError(f"hidden_act {config['hidden_act']!r} is not silu")
        rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
        theta = rope.pop("rope_theta", None) or config.get("rope_theta") or 10000.0
        known = {k: v for k, v in config.items() if k in cls.__dataclass_fields__}
        return cls(**{**known, "rope_theta": float(theta), "rope_scaling": rope})

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def rope_type(self) -> str:
        return self.rope_scaling.get("rope_type") or self.rope_scaling.get("type") or "default"


class LlamaModel(nn.Module):
    """Causal decoder: token ids to hidden states."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        input_ids: Tensor,  # [B, S] int64
        attention_mask: Tensor | None = None,  # [B, S], 1 = valid; None: all
        *,
        skip_layers: int = 0,
    ) -> Tensor:
        """`hidden_states[-(skip_layers + 1)]` of Hugging Face's model, [B, S, hidden_size].

        0: the normalized output of the last layer. k > 0: the input of the k-th layer from the end (not normalized);
        the layers above it are not run. Raises ValueError when the model has fewer layers than skip_layers.
        """
        if not 0 <= skip_layers <= len(self.layers):
            raise ValueError(f"skip_layers must be 0..{len(self.layers)} for this model, not {skip_layers}")
        return self.hidden_states(input_ids, attention_mask, last=len(self.layers) - skip_layers)[-1]

    def hidden_states(
        self,
        input_ids: Tensor,  # [B, S] int64
        attention_mask: Tensor | None = None,  # [B, S], 1 = valid; None: all
        *,
        last: int | None = None,
    ) -> list[Tensor]:
        """Embeddings, then the output of each layer up to number `last` (default: all); the very last is normalized."""
        last = len(self.layers) if last is None else last
        x = self.embed_tokens(input_ids)
        visible = causal_mask(input_ids, attention_mask)
        rope = rope_tables(self.config, input_ids.shape[1], x.device, x.dtype)
        states = [x]
        for number, layer in enumerate(self.layers[:last], 1):
            x = near(layer, x.device)(x, visible, rope)
            states.append(x)
            tell("encoding text", number, last)
        if last == len(self.layers):
            states[-1] = self.norm(x)
        return states


class DecoderLayer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = GatedMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x: Tensor,  # [B, S, hidden]
        visible: Tensor,  # [B, 1, S, S] bool
        rope: tuple[Tensor, Tensor],  # cos, sin: [S, head_size]
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), visible, rope)
        return x + self.mlp(self.post_attention_layernorm(x))


class Attention(nn.Module):
    """Causal attention with rotary positions; groups of query heads share one key/value head."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.head_size = config.head_size
        self.grouped = config.kv_heads != config.num_attention_heads
        inner, kv_inner = config.num_attention_heads * config.head_size, config.kv_heads * config.head_size
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, kv_inner, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, kv_inner, bias=config.attention_bias)
        self.o_proj = nn.Linear(inner, config.hidden_size, bias=config.attention_bias)

    def forward(
        self,
        x: Tensor,  # [B, S, hidden]
        visible: Tensor,  # [B, 1, S, S] bool
        rope: tuple[Tensor, Tensor],  # cos, sin: [S, head_size]
    ) -> Tensor:
        q, k, v = (self._heads(proj(x)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, *rope), rotate(k, *rope)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=self.grouped)
        return self.o_proj(out.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:  # [B, S, H * D] -> [B, H, S, D]
        return x.unflatten(2, (-1, self.head_size)).transpose(1, 2)


class GatedMLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:  # [..., hidden] -> [..., hidden]
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class RMSNorm(nn.Module):
    """Root-mean-square norm with a weight; statistics in float32, rounded to the input's dtype before the weight."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:  # [..., size] -> [..., size]
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


def causal_mask(
    input_ids: Tensor,  # [B, S]
    attention_mask: Tensor | None,  # [B, S], 1 = valid
) -> Tensor:
    """Which key each query sees: itself and earlier ones, if valid. Bool [B or 1, 1, S, S].

    A query that has no valid key (left padding) sees all of them: softmax over nothing would be NaN.
    """
    length = input_ids.shape[1]
    visible = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()[None, None]
    if attention_mask is None:
        return visible
    visible = visible & attention_mask.bool()[:, None, None, :]
    return visible | ~visible.any(dim=-1, keepdim=True)


def rope_tables(
    config: LlamaConfig, length: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:  # cos, sin: [length, head_size]
    """Rotation tables for positions 0..length-1; angles in float32, each repeated for the two halves of the head."""
    angles = torch.outer(torch.arange(length, device=device).float(), rope_frequencies(config, device))
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rope_frequencies(config: LlamaConfig, device: torch.device) -> Tensor:  # [head_size / 2] float32
    """Radians per position. llama3 scaling stretches only wavelengths that the original context could not hold."""
    exponent = torch.arange(0, config.head_size, 2, device=device).float() / config.head_size
    frequency = 1.0 / config.rope_theta**exponent
    scaling = config.rope_scaling
    if config.rope_type == "linear":
        return frequency / scaling["factor"]
    if config.rope_type == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        turns = scaling["original_max_position_embeddings"] * frequency / (2 * math.pi)
        keep = ((turns - low) / (high - low)).clamp(0, 1)
        return keep * frequency + (1 - keep) * frequency / scaling["factor"]
    return frequency


def rotate(
    x: Tensor,  # [B, H, S, D]
    cos: Tensor,  # [S, D]
    sin: Tensor,  # [S, D]
) -> Tensor:
    """Rotary embedding with the pairs (i, i + D/2), Llama's half-rotation (the video transformer pairs neighbors)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
