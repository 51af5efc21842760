"""CLIP's text transformer. Attribute names are the key names of Hugging Face's text model (transformers 5; without the
`text_model.` prefix of version 4), so its weights load strictly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hunyuan_video.rules import check_field_types


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the GELU approximation CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}
SIZES = tuple(
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads max_position_embeddings".split()
)
LEGACY_EOS = 2  # configs written before transformers 4.31 all say 2, whatever the vocabulary


@dataclass(frozen=True)
class ClipTextConfig:
    """Sizes of a CLIP text model; field names and defaults are those of Hugging Face's config.json."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407

    def __post_init__(self) -> None:
        check_field_types(self, SIZES)
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act {self.hidden_act!r} is not one of {', '.join(ACTIVATIONS)}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads")

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> ClipTextConfig:
        """From a parsed config.json; unknown entries are ignored. Raises ValueError for an unknown activation,
        TypeError for values of the wrong type.
        """
        return cls(**{k: v for k, v in config.items() if k in cls.__dataclass_fields__ and v is not None})


class ClipTextModel(nn.Module):
    """Token ids to the normalized states of all tokens and the one state that stands for the whole text."""

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:  # [B, S] -> [B, S, D], pooled [B, D]
        """No padding mask: attention is causal and the pooled token comes before the padding.

        Raises ValueError for more tokens than the model has positions.
        """
        if input_ids.shape[1] > self.config.max_position_embeddings:
            raise ValueError(
                f"input_ids has {input_ids.shape[1]} tokens, the model {self.config.max_position_embeddings} positions"
            )
        states = self.final_layer_norm(self.encoder(self.embeddings(input_ids)))
        rows = torch.arange(len(input_ids), device=input_ids.device)
        return states, states[rows, end_positions(input_ids, self.config.eos_token_id)]


class Embeddings(nn.Module):
    """Token plus learned position embedding."""

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, input_ids: Tensor) -> Tensor:  # [B, S] -> [B, S, D]
        return self.token_embedding(input_ids) + self.position_embedding.weight[: input_ids.shape[1]]


class Encoder(nn.Module):
    """The stack of layers (its own module because the key names say so)."""

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:  # [B, S, D] -> [B, S, D]
        for layer in self.layers:
            x = layer(x)
        return x


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:  # [B, S, D] -> [B, S, D]
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Attention(nn.Module):
    """Causal multi-head attention with biases."""

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(config.hidden_size, config.hidden_size) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, S, D] -> [B, S, D]
        q, k, v = (
            proj(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """fc2(activation(fc1(x)))."""

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:  # [B, S, D] -> [B, S, D]
        return self.fc2(self.activation(self.fc1(x)))


def end_positions(
    input_ids: Tensor,  # [B, S]
    eos_token_id: int,
) -> Tensor:  # [B] int64
    """Position of the first end token of each text, as transformers finds it.

    Old configs carry eos_token_id 2 although CLIP's end token is the highest id of the vocabulary; for them it is the
    position of the highest id. A text without end token gives position 0.
    """
    if eos_token_id == LEGACY_EOS:
        return input_ids.argmax(dim=-1)
    return (input_ids == eos_token_id).int().argmax(dim=-1)
