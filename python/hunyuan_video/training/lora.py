"""LoRA training: the network of a run with an adapter on its frozen weights, and the adapter's file as its result.

Low-rank products are trained in float32 beside weights that stay as they are, FP8 ones included (nothing is
dequantised: the branch is a second, small product). Defaults: attention and MLP projections of both streams.
"""

from __future__ import annotations

from pathlib import Path

import torch

from hunyuan_video.checkpoints.lora import save_adapter
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.lora import add_adapter, target_linears
from hunyuan_video.training.config import LoRAConfig

NAME = "lora"
FILE = "lora.safetensors"
TARGETS = (
    r"double_blocks\.\d+\.(img|txt)_(attn_qkv|attn_proj|mlp\.fc[12])",
    r"single_blocks\.\d+\.linear[12]",
)


def make_network(init_from: str, model: dict, lora: LoRAConfig) -> HunyuanVideoTransformer:
    """The transformer to train, in float32: new (from TransformerConfig fields), from a file, or with an adapter.

    Raises UserError for an adapter without weights to adapt, a negative rank or targets that match nothing.
    """
    if not lora.rank:
        if init_from:
            return HunyuanVideoTransformer.from_pretrained(init_from, dtype=torch.float32)
        return HunyuanVideoTransformer(TransformerConfig(**model))
    if not init_from:
        raise UserError("lora: an adapter needs weights to adapt; set init_from to an exported transformer")
    network = HunyuanVideoTransformer.from_pretrained(init_from, dtype=torch.float32).requires_grad_(False)
    try:
        paths = target_linears(network, lora.targets or TARGETS)
        alphas = dict.fromkeys(paths, lora.alpha) if lora.alpha else None
        add_adapter(network, NAME, dict.fromkeys(paths, lora.rank), alphas)
    except ValueError as error:
        raise UserError(f"lora: {error}") from error
    return network


def export_network(network: HunyuanVideoTransformer, lora: LoRAConfig, folder: Path) -> None:
    """A checkpoint folder, or the adapter's file with diffusers' names in the folder."""
    if lora.rank:
        folder.mkdir(parents=True, exist_ok=True)
        save_adapter(network, NAME, folder / FILE)
    else:
        network.save_pretrained(folder)
