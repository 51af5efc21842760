"""Training: one loop for every kind of run, from YAML or from Python (names load on first use).

>>> from hunyuan_video.training import load_config, train
>>> metrics = train(load_config("recipes/tiny/flow.yaml", ("loop.steps=100",)))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hunyuan_video.training.api import train
    from hunyuan_video.training.config import load_config
    from hunyuan_video.training.report import read_log

_HOMES = {"load_config": "config", "read_log": "report", "train": "api"}

__all__ = ["load_config", "read_log", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
