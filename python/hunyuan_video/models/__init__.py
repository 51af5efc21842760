"""Networks: transformer, video VAE, text encoders. Importing one name loads only its module."""

from __future__ import annotations

from typing import Any

from hunyuan_video.lazy import load

_MODULES = {
    "CausalVAE": "vae.model",
    "ClipTextEncoder": "text",
    "HunyuanVideoTransformer": "transformer.model",
    "TextEncoder": "text",
    "TransformerConfig": "transformer.config",
    "VAEConfig": "vae.config",
    "rope_table": "transformer.rope",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    return load(__name__, _MODULES, name)
