"""Names of a package that are loaded on first use, so that importing the package costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def load(package: str, homes: Mapping[str, str], name: str) -> Any:
    """A name of a package from its home: name -> module, below the package or in full. AttributeError for others."""
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    home = homes[name]
    return getattr(import_module(home if home.startswith("hunyuan_video.") else f"{package}.{home}"), name)
