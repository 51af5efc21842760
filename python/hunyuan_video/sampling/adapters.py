"""Adapters that come with a checkpoint: `adapters/NAME.safetensors`, one of which may be the default.

sampling.json names it (`"adapter": NAME`) and, under `"adapters": {NAME: {...}}`, the sampling defaults that go with
each. A step-distilled student ships this way: the teacher's weights and a small file; "none" is the teacher.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hunyuan_video.errors import UserError

if TYPE_CHECKING:
    from hunyuan_video.models import HunyuanVideoTransformer

NONE = "none"
FOLDER = "adapters"


def adapter_name(values: dict[str, Any], asked: str | None) -> str:
    """Which adapter to use: the one asked for, else the default of a checkpoint's sampling.json, else "none"."""
    return str(values.get("adapter", NONE)) if asked is None else asked


def adapter_defaults(values: dict[str, Any], asked: str | None) -> dict[str, Any]:
    """A sampling.json's values, with those of the adapter in the place of the plain model's."""
    own = values.get("adapters", {}).get(adapter_name(values, asked), {})
    return {**values, **own}


def adapter_path(folder: Path, values: dict[str, Any], asked: str | None) -> Path | None:
    """The file of the adapter to use: of the checkpoint, or any file that is named as one; None for "none"."""
    name = adapter_name(values, asked)
    if name == NONE:
        return None
    if name.endswith(".safetensors"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise UserError(f"no adapter file {name}; give a .safetensors file, or {NONE!r}")
        return path
    path = folder / FOLDER / f"{name}.safetensors"
    if not path.is_file():
        known = sorted(file.stem for file in (folder / FOLDER).glob("*.safetensors"))
        raise UserError(f"{folder} has no adapter {name!r}; it has {', '.join([*known, NONE])}")
    return path


def apply_adapter(transformer: HunyuanVideoTransformer, path: Path) -> None:
    """Adds an adapter to the weights for good: sampling then costs what it costs without."""
    from hunyuan_video.checkpoints.lora import load_adapter
    from hunyuan_video.models.lora import merge_adapters, remove_adapters

    load_adapter(transformer, path)
    merge_adapters(transformer)
    remove_adapters(transformer, keep_merged=True)
