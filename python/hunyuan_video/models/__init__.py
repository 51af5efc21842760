"""Networks: transformer, video VAE, text encoders. Importing one name loads only its module."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {
    "CausalVAE": "vae",
    "ClipTextEncoder": "text",
    "HunyuanVideoTransformer": "transformer",
    "TextEncoder": "text",
    "TransformerConfig": "config",
    "VAEConfig": "vae_config",
    "rope_table": "rope",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
