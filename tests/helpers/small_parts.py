"""A transformer that takes the bundled text encoders' features, for runs that need a checkpoint to start from."""

from __future__ import annotations

from pathlib import Path

import torch

from hunyuan_video.checkpoints.layout import BUNDLED
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig

TINY = BUNDLED["tiny"]
MODEL = {"hidden_size": 32, "num_heads": 1, "double_blocks": 1, "single_blocks": 1, "rope_dims": [8, 12, 12],
         "text_dim": 128, "pooled_text_dim": 96, "guidance_embed": False, "refiner_depth": 1}  # fmt: skip


def save_transformer(folder: Path, channels: int) -> HunyuanVideoTransformer:
    """Transformer of MODEL's sizes, away from the zeros it starts with; saved in folder/transformer."""
    model = HunyuanVideoTransformer(TransformerConfig(**MODEL, in_channels=channels, out_channels=channels))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder / "transformer")
    return model
