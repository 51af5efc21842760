"""Names that packages load on first use: each is where its package says."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import hunyuan_video

ROOT = Path(hunyuan_video.__file__).parent
PACKAGES = sorted(".".join(path.parent.relative_to(ROOT.parent).parts) for path in ROOT.rglob("__init__.py"))
LAZY = [name for name in PACKAGES if hasattr(import_module(name), "_HOMES") or hasattr(import_module(name), "_MODULES")]


@pytest.mark.parametrize("package", LAZY)
def test_every_name_loads(package):
    module = import_module(package)
    names = getattr(module, "_HOMES", None) or module._MODULES
    assert names and [name for name in names if not hasattr(module, name)] == []


def test_packages_are_found():
    assert {"hunyuan_video", "hunyuan_video.sampling", "hunyuan_video.media", "hunyuan_video.models"} <= set(LAZY)
