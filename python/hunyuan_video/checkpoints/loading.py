"""Filling a model from a checkpoint, one tensor at a time: memory holds the model and never a second copy of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

import hunyuan_ext as ops
from hunyuan_video.checkpoints.keys import SCALE
from hunyuan_video.checkpoints.locate import open_checkpoint
from hunyuan_video.checkpoints.names import Component
from hunyuan_video.checkpoints.sources import TensorSource, read
from hunyuan_video.checkpoints.validate import FP8_DTYPES, check_checkpoint, fp8_modules
from hunyuan_video.errors import UserError

Model = TypeVar("Model", bound=nn.Module)


def load_model(
    model_class: type[Model],
    component: Component,
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    load_key: Literal["module", "ema"] | None = None,
    quantize: Literal["fp8"] | None = None,
) -> Model:
    """A model in evaluation mode from a file, a component's folder or a pipeline's root; see `Pretrained`."""
    if dtype in FP8_DTYPES:
        raise UserError("dtype cannot be an FP8 type, its values need scales; load with quantize='fp8'")
    if quantize not in (None, "fp8"):
        raise ValueError(f"quantize={quantize!r} is unknown; use 'fp8' or None")
    checkpoint = open_checkpoint(path, component, load_key)
    source = checkpoint.source
    with torch.device("meta"):
        model = model_class(checkpoint.config)
    check_checkpoint(checkpoint, {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    stored = fp8_modules(source)
    fresh: list[str] = []
    if stored or quantize:
        from hunyuan_video.models.fp8 import convert_to_fp8_modules, fp8_module_names

        fresh = [name for name in fp8_module_names(model) if name not in stored] if quantize == "fp8" else []
        convert_to_fp8_modules(model, stored + fresh)

    device = torch.device(device or "cpu")
    dtype = dtype or main_dtype(source)
    for name, old in list(model.named_parameters()) + list(model.named_buffers()):
        module, _, leaf = name.rpartition(".")
        if module in fresh and leaf in ("weight", SCALE):
            continue
        _assign(model, name, _materialise(source, name, old, dtype, device))
    for module in fresh:
        weight = read(source, f"{module}.weight").to(device)
        quantised, scale = ops.quantize_fp8(weight, granularity="row")
        _assign(model, f"{module}.weight", quantised)
        _assign(model, f"{module}.{SCALE}", scale)
    return model.eval()


def main_dtype(source: TensorSource) -> torch.dtype:
    """The floating-point dtype most elements of a source have, FP8 weights apart; float32 if there is none."""
    counts: Counter[torch.dtype] = Counter()
    for info in source.infos.values():
        if info.dtype.is_floating_point and info.dtype not in FP8_DTYPES:
            counts[info.dtype] += info.count
    return counts.most_common(1)[0][0] if counts else torch.float32


def _materialise(source: TensorSource, name: str, old: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    info = source.infos[name]
    keep = info.dtype in FP8_DTYPES or name.endswith(f".{SCALE}") or not info.dtype.is_floating_point
    out = torch.empty(info.shape, dtype=info.dtype if keep else dtype, device=device)
    source.read_into(out, name)
    return out


def _assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Puts a tensor in the place of a parameter or buffer."""
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    if leaf in owner._parameters:
        old = owner._parameters[leaf]
        owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=old.requires_grad)
    else:
        owner._buffers[leaf] = tensor
