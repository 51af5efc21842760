"""`hunyuan-video convert`: checkpoints from one layout into the other, a component or a whole pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from hunyuan_video.checkpoints.layout import BUNDLED, component_folder, is_pipeline
from hunyuan_video.checkpoints.locate import components_at, open_checkpoint
from hunyuan_video.checkpoints.names import Component, Layout
from hunyuan_video.checkpoints.pipeline_folder import copy_companions
from hunyuan_video.checkpoints.save import MAX_SHARD_SIZE, write_checkpoint
from hunyuan_video.checkpoints.validate import check_checkpoint
from hunyuan_video.errors import UserError
from hunyuan_video.files import staged_folder
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MODELS: dict[Component, type] = {"transformer": HunyuanVideoTransformer, "vae": CausalVAE}


def convert(
    src: str | Path,
    dst: str | Path,
    layout: Layout,
    dtype: torch.dtype | Literal["float32", "bfloat16", "float16"] | None = None,
    *,
    load_key: Literal["module", "ema"] | None = None,
    max_shard_size: int = MAX_SHARD_SIZE,
) -> list[Path]:
    """Writes the checkpoint at `src` (any layout) to `dst` in a layout; returns the paths of the written components.

    src: a weight file, a component's folder, or a pipeline's root, of which the text encoders, tokenizers and settings
    come along. dst: a folder (of the component or the pipeline), or for one component a .safetensors or .pt file. It
    appears when it is complete. dtype: of the weights, default as stored (FP8 always stays FP8). Tensors stream, so
    memory holds one of them; a `.pt` destination (layout "official") needs memory for the component.
    Raises UserError for bad input, ValueError for an unknown layout or dtype.
    """
    src, dst = BUNDLED.get(str(src), Path(src).expanduser()), Path(dst).expanduser()
    if layout not in ("diffusers", "official"):
        raise ValueError(f"layout={layout!r} is unknown; use 'diffusers' or 'official'")
    if isinstance(dtype, str):
        if dtype not in _DTYPES:
            raise ValueError(f"dtype={dtype!r} is unknown; use one of {', '.join(_DTYPES)}")
        dtype = _DTYPES[dtype]
    if dst.resolve() == src.resolve():
        raise UserError(f"source and destination are both {src}; give another destination")
    components = components_at(src)
    if not is_pipeline(src) and len(components) == 1:
        return [_convert_component(src, dst, components[0], layout, dtype, load_key, max_shard_size)]
    if dst.suffix in (".safetensors", ".pt"):
        raise UserError(
            f"{src} holds {' and '.join(components)}, too much for {dst.name}; give a folder as destination"
        )
    with staged_folder(dst, may_replace=lambda entry: False) as folder:
        parts = [component_folder(layout, component) for component in components]
        for component, part in zip(components, parts, strict=True):
            _convert_component(src, folder / part, component, layout, dtype, load_key, max_shard_size)
        if src.is_dir():
            copy_companions(src, folder, layout, components)
    return [dst / part for part in parts]


def _convert_component(
    src: Path,
    dst: Path,
    component: Component,
    layout: Layout,
    dtype: torch.dtype | None,
    load_key: Literal["module", "ema"] | None,
    max_shard_size: int,
) -> Path:
    checkpoint = open_checkpoint(src, component, load_key)
    with torch.device("meta"):
        model = _MODELS[component](checkpoint.config)
    check_checkpoint(checkpoint, model)
    return write_checkpoint(checkpoint.source, checkpoint.config, component, dst, layout, max_shard_size, dtype)
