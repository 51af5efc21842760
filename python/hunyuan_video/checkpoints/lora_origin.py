"""Header entries of an adapter that say how it is sampled and which weights it was trained beside.

| key | value |
|---|---|
| hunyuan_video.sampling | JSON: the sampling defaults that go with it: steps, shift, solver, guidance |
| hunyuan_video.base | `fingerprint.base_fingerprint` of the transformer without it |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hunyuan_video.errors import UserError, notify
from hunyuan_video.fingerprint import base_fingerprint
from hunyuan_video.models.int8 import QuantizedLinear

SAMPLING_KEY = "hunyuan_video.sampling"
BASE_KEY = "hunyuan_video.base"


def origin_header(model: nn.Module, settings: Mapping[str, Any]) -> dict[str, str]:
    """Entries for an adapter on `model`, whose own weights are as they were; settings: names of sampling defaults."""
    stated = {SAMPLING_KEY: json.dumps(dict(settings), sort_keys=True)} if settings else {}
    return {**stated, BASE_KEY: base_fingerprint(model)}


def stated_settings(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Sampling defaults in a header; {} where there are none. UserError for damaged ones."""
    if SAMPLING_KEY not in metadata:
        return {}
    try:
        values = json.loads(metadata[SAMPLING_KEY])
    except ValueError:
        values = None
    if not isinstance(values, dict) or not all(isinstance(value, int | float | str) for value in values.values()):
        raise UserError(f"{path}: {SAMPLING_KEY} of its header is no table of settings; copy or export it again")
    return values


def settings_text(settings: Mapping[str, Any]) -> str:
    """'num_inference_steps 4, solver lcm'."""
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in settings.items())  # fmt: skip


def check_base(model: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """A Notice where an adapter states other weights than those of `model`, which has no adapters yet.

    FP8, int8 and float16 weights are rounded otherwise and cannot be compared.
    """
    if BASE_KEY not in metadata or not _comparable(model):
        return
    if (found := base_fingerprint(model)) != metadata[BASE_KEY]:
        notify(
            f"{path}: trained beside other weights ({metadata[BASE_KEY]}) than this checkpoint's ({found}); it may do "
            "less, or harm"
        )


def _comparable(model: nn.Module) -> bool:
    codes = any(isinstance(module, QuantizedLinear) for module in model.modules())
    return not codes and all(weight.dtype != torch.float16 for weight in model.parameters())
