"""`hunyuan-video convert`: checkpoints from one layout into the other, a component or a whole pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from hunyuan_video.checkpoints.layout import BUNDLED, component_folder, is_pipeline
from hunyuan_video.checkpoints.locate import components_at, open_checkpoint
from hunyuan_video.checkpoints.names import Component, Layout
from hunyuan_video.checkpoints.pipeline_folder import copy_companions
from hunyuan_video.checkpoints.quantized import KINDS, MODULATIONS, LayerError, QuantizedSource, chosen_linears
from hunyuan_video.checkpoints.save import MAX_SHARD_SIZE, write_checkpoint
from hunyuan_video.checkpoints.sources import TensorSource
from hunyuan_video.checkpoints.validate import check_checkpoint, quantized_modules
from hunyuan_video.errors import UserError
from hunyuan_video.files import staged_folder
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer
from hunyuan_video.writers import one_writer

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MODELS: dict[Component, type] = {"transformer": HunyuanVideoTransformer, "vae": CausalVAE}


@dataclass
class Quantization:
    """A wanted type of one byte, and where errors are noted."""

    kind: str
    keep: Sequence[str]
    errors: dict[str, LayerError] | None

    def of(self, source: TensorSource, model: nn.Module, where: Path) -> QuantizedSource:
        """The source with what is to be quantized. UserError where there is nothing of it."""
        paths = chosen_linears(model, source, self.keep)
        if not paths:
            done = bool(quantized_modules(source))
            raise UserError(
                f"{where} has no weights to quantize: {'they are quantized already' if done else 'all are kept'}; "
                f"{'convert the bfloat16 checkpoint' if done else 'name fewer to keep'}"
            )
        quantized = QuantizedSource(source, paths, self.kind)
        if self.errors is not None:
            quantized.errors = self.errors
        return quantized


def convert(
    src: str | Path,
    dst: str | Path,
    layout: Layout,
    dtype: torch.dtype | Literal["float32", "bfloat16", "float16", "fp8", "int8"] | None = None,
    *,
    load_key: Literal["module", "ema"] | None = None,
    max_shard_size: int = MAX_SHARD_SIZE,
    keep: Sequence[str] = MODULATIONS,
    errors: dict[str, LayerError] | None = None,
) -> list[Path]:
    """Writes the checkpoint at `src` (any layout) to `dst` in a layout; returns the paths of the written components.

    src: a weight file, a component's folder, or a pipeline's root, of which the text encoders, tokenizers and settings
    come along. dst: a folder (of the component or the pipeline), or for one component a .safetensors or .pt file. It
    appears when it is complete. dtype: of the weights, default as stored (FP8 and int8 stay what they are). Tensors
    stream, so memory holds one of them; a `.pt` destination (layout "official") needs memory for the component.

    dtype "fp8" (e4m3) or "int8": linears of the transformer's blocks are quantized, a scale for each output channel;
    all else stays as stored, and so do linears whose official names are like one of `keep` (fnmatch): by default the
    modulations. () takes all of the blocks, as the released FP8 file does. errors: a dict to fill with the error of
    each layer that was quantized.
    Raises UserError for bad input, ValueError for an unknown layout or dtype.
    """
    src, dst = BUNDLED.get(str(src), Path(src).expanduser()), Path(dst).expanduser()
    if layout not in ("diffusers", "official"):
        raise ValueError(f"layout={layout!r} is unknown; use 'diffusers' or 'official'")
    if isinstance(dtype, str) and dtype not in (*_DTYPES, *KINDS):
        raise ValueError(f"dtype={dtype!r} is unknown; use one of {', '.join((*_DTYPES, *KINDS))}")
    stored_as = dtype if isinstance(dtype, torch.dtype) else _DTYPES.get(str(dtype))
    quantization = Quantization(str(dtype), keep, errors) if dtype in KINDS else None
    if dst.resolve() == src.resolve():
        raise UserError(f"source and destination are both {src}; give another destination")
    with one_writer(dst, "converts", beside=True):
        return _convert(src, dst, (layout, stored_as, load_key, max_shard_size, quantization))


Step = tuple[Layout, torch.dtype | None, Literal["module", "ema"] | None, int, Quantization | None]


def _convert(src: Path, dst: Path, step: Step) -> list[Path]:
    layout, *_, quantization = step
    components = components_at(src)
    if not is_pipeline(src) and len(components) == 1:
        if quantization and components[0] == "vae":
            raise UserError(
                f"dtype {quantization.kind} is for the linears of a transformer, and {src} is a VAE; leave it as it is"
            )
        return [_convert_component(src, dst, components[0], *step)]
    if dst.suffix in (".safetensors", ".pt"):
        raise UserError(
            f"{src} holds {' and '.join(components)}, too much for {dst.name}; give a folder as destination"
        )
    with staged_folder(dst, may_replace=lambda entry: False) as folder:
        parts = [component_folder(layout, component) for component in components]
        for component, part in zip(components, parts, strict=True):
            _convert_component(src, folder / part, component, *step)
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
    quantization: Quantization | None,
) -> Path:
    checkpoint = open_checkpoint(src, component, load_key)
    with torch.device("meta"):
        model = _MODELS[component](checkpoint.config)
    check_checkpoint(checkpoint, model)
    source: TensorSource = checkpoint.source
    if quantization and component == "transformer":
        source = quantization.of(source, model, src)
    return write_checkpoint(source, checkpoint.config, component, dst, layout, max_shard_size, dtype)
