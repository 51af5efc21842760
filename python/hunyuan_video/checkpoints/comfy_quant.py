"""ComfyUI's notes on how a file's linears are quantized, of which some mean weights that cannot be read as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hunyuan_video.checkpoints.sources import TensorSource, read
from hunyuan_video.errors import UserError

KNOWN = ("float8_e4m3fn", "float8_e5m2", "int8_tensorwise")
_NOTE = ".comfy_quant"


def check_comfy_quant(source: TensorSource) -> None:
    """UserError for layers that are packed or rotated: reading them as plain codes would give noise."""
    for name, note in _notes(source):
        kind = str(note.get("format", "float8_e4m3fn"))
        if note.get("convrot"):
            kind = f"{kind}, rotated (convrot)"
        if kind not in KNOWN:
            raise UserError(
                f"{_where(source)}: the layer {name} is {kind}, a format of ComfyUI that is not "
                "read here; use the bf16 or fp8 file of this model"
            )


def _notes(source: TensorSource) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        metadata = json.loads(getattr(source, "metadata", {}).get("_quantization_metadata", "{}"))
        layers = metadata.get("layers", {}) if isinstance(metadata, dict) else {}
        yield from ((name, note) for name, note in layers.items() if isinstance(note, dict))
        for name in source.infos:
            if name.endswith(_NOTE):
                note = json.loads(bytes(read(source, name).flatten().tolist()))
                if isinstance(note, dict):
                    yield name.removesuffix(_NOTE), note
    except (ValueError, AttributeError, TypeError) as error:
        text = f"{_where(source)}: its notes on quantization are damaged ({error}); copy or download it again"
        raise UserError(text) from error


def _where(source: TensorSource) -> str:
    return str(getattr(source, "path", "the checkpoint"))
