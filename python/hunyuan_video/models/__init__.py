"""Networks: transformer, video VAE, text encoders. Importing one name loads only its module."""

from __future__ import annotations

from importlib import import_module
from typing import Any

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
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
