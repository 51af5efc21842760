"""Tiny models with every weight random (fresh ones have zeros in places, which would hide errors)."""

from __future__ import annotations

import torch

from hunyuan_video.models import TransformerConfig, VAEConfig

TINY = TransformerConfig(
    hidden_size=32,
    num_heads=2,
    double_blocks=2,
    single_blocks=2,
    in_channels=4,
    out_channels=4,
    rope_dims=(4, 6, 6),
    text_dim=24,
    pooled_text_dim=20,
)
TINY_VAE = VAEConfig(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_groups=4, latent_channels=4)


def randomized(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            center = 1.0 if "norm" in name and name.endswith("weight") and parameter.ndim == 1 else 0.0
            parameter.normal_(center, 0.15)
    return model.eval()


def same_weights(model, other) -> bool:
    """Bit equality of two models' state dicts."""
    a, b = model.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(same_bits(a[name], b[name]) for name in a)


def same_bits(a, b) -> bool:
    alike = a.dtype == b.dtype and a.shape == b.shape
    return alike and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
