"""Bytes beside the weights of a transformer's step, of its table of modulations, and of the text encoders."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import torch
from torch import nn

from hunyuan_ext.core.rehearsal import Machine
from hunyuan_video.models import TransformerConfig
from hunyuan_video.models.pretrained import SkipInit
from hunyuan_video.models.text.clip import ClipTextConfig, ClipTextModel
from hunyuan_video.models.text.llama import LlamaConfig, LlamaModel
from hunyuan_video.planning.live import counted
from hunyuan_video.planning.sizes import empty_transformer, few_blocks

Latent = tuple[int, int, int, int]  # C, T, h, w of one video


@lru_cache(maxsize=256)
def step_bytes(
    config: TransformerConfig, precision: str, dtype: torch.dtype, machine: Machine, latent: Latent, batch: int,
    text: int,
) -> int:  # fmt: skip
    """The most that is alive beside the weights in one pass of the transformer, its inputs included."""
    model = empty_transformer(few_blocks(config), precision, dtype)
    with counted(machine, model) as live:
        condition = {"guidance": torch.empty(batch)} if config.guidance_embed else {}
        model(
            torch.empty(batch, *latent),
            torch.empty(batch),
            text=torch.empty(batch, text, config.text_dim),
            pooled_text=torch.empty(batch, config.pooled_text_dim),
            **condition,
        )
    return live.most


def table_bytes(config: TransformerConfig, dtype: torch.dtype, steps: int, batch: int) -> int:
    """Modulations of all steps."""
    vectors = 12 * config.double_blocks + 3 * config.single_blocks + 2
    return steps * batch * vectors * config.hidden_size * dtype.itemsize


def encoder_bytes(config: LlamaConfig | ClipTextConfig | None, dtype: torch.dtype, tokens: int) -> int:
    """The most that is alive beside the weights while a prompt is read; 0 for a model of another kind.

    A few layers are run; of each further one the state stays.
    """
    if config is None:
        return 0
    layers = min(config.num_hidden_layers, 4)
    more = (config.num_hidden_layers - layers) * tokens * config.hidden_size * dtype.itemsize
    few = replace(config, num_hidden_layers=layers)
    with torch.device("meta"), SkipInit():
        model: nn.Module = LlamaModel(few) if isinstance(few, LlamaConfig) else ClipTextModel(few)
        model = model.to(dtype)
    with counted(Machine(), model) as live:
        ids = torch.empty(1, tokens, dtype=torch.int64)
        if isinstance(few, LlamaConfig):
            model(ids, torch.empty(1, tokens, dtype=torch.int64), skip_layers=min(2, layers))
        else:
            model.encoder(model.embeddings(ids))  # type: ignore[operator]
    return live.most + (more if isinstance(few, LlamaConfig) else 0)


def step_flops(config: TransformerConfig, latent: Latent, batch: int, text: int) -> tuple[float, float]:
    """FLOPs of attention and of products in one pass."""
    video = math.prod(latent[1:]) // config.patch_volume
    tokens, width, hidden = video + text, config.hidden_size, config.mlp_width
    blocks = config.double_blocks + config.single_blocks
    attention = 4.0 * batch * blocks * tokens**2 * width
    per_token = 2 * (4 * width**2 + 2 * width * hidden)  # qkv, projection and MLP, in both kinds of block
    return attention, float(batch * blocks * tokens * per_token)
