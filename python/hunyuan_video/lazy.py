"""Names that are loaded on first use, so that importing a package costs nothing; packages of an extra."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from hunyuan_video.errors import UserError


def load(package: str, homes: Mapping[str, str], name: str) -> Any:
    """A name of a package from its home: name -> module, below the package or in full. AttributeError for others."""
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    home = homes[name]
    return getattr(import_module(home if home.startswith("hunyuan_video.") else f"{package}.{home}"), name)


def optional_package(name: str, what: str, extra: str) -> Any:
    """A package of one of our extras; UserError, "{what} needs {name}", where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f'{what} needs {name} ({error}): pip install "hunyuan-ext[{extra}]"') from None
