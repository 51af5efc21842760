"""Tiny transformers and their inputs, shared by the transformer tests."""

from __future__ import annotations

import torch

from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig

GOLDEN_NAMES = {
    "hidden_size": "hidden_size",
    "heads_num": "num_heads",
    "mm_double_blocks_depth": "double_blocks",
    "mm_single_blocks_depth": "single_blocks",
    "mlp_width_ratio": "mlp_ratio",
    "in_channels": "in_channels",
    "out_channels": "out_channels",
    "patch_size": "patch_size",
    "rope_dim_list": "rope_dims",
    "rope_theta": "rope_theta",
    "text_states_dim": "text_dim",
    "text_states_dim_2": "pooled_text_dim",
    "guidance_embed": "guidance_embed",
    "qkv_bias": "qkv_bias",
}


def golden_model(case) -> HunyuanVideoTransformer:
    """The model of a golden dit case, its official keys loaded strictly."""
    settings = case.facts["config"]
    model = HunyuanVideoTransformer(TransformerConfig(**{ours: settings[key] for key, ours in GOLDEN_NAMES.items()}))
    model.load_state_dict(case.part("weights"), strict=True)
    return model.eval()


def golden_inputs(case) -> dict[str, torch.Tensor | None]:
    """Keyword arguments of the forward."""
    given = case.part("in")
    return {
        "latents": given["x"],
        "timestep": given["t"],
        "text": given["text_states"],
        "text_mask": given["text_mask"],
        "pooled_text": given["text_states_2"],
        "guidance": given.get("guidance"),
    }


def tiny_config(**changes) -> TransformerConfig:
    base = {
        "hidden_size": 32,
        "num_heads": 2,
        "double_blocks": 1,
        "single_blocks": 1,
        "in_channels": 4,
        "out_channels": 4,
        "rope_dims": (4, 6, 6),
        "text_dim": 12,
        "pooled_text_dim": 10,
    }
    return TransformerConfig(**{**base, **changes})


def tiny_model(**changes) -> HunyuanVideoTransformer:
    """A tiny model whose zero-initialized layers are random too, so that every path shows in the output."""
    torch.manual_seed(7)
    model = HunyuanVideoTransformer(tiny_config(**changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def tiny_inputs(batch: int = 2, length: int = 5, valid=(3, 5), guidance: bool = True) -> dict[str, torch.Tensor | None]:
    torch.manual_seed(11)
    mask = torch.zeros(batch, length, dtype=torch.int64)
    for row, count in enumerate(valid[:batch]):
        mask[row, :count] = 1
    return {
        "latents": torch.randn(batch, 4, 2, 4, 6),
        "timestep": torch.linspace(900, 100, batch),
        "text": torch.randn(batch, length, 12),
        "text_mask": mask,
        "pooled_text": torch.randn(batch, 10),
        "guidance": torch.full((batch,), 6000.0) if guidance else None,
    }
