"""Filling a model from a checkpoint, one tensor at a time: memory holds the model and never a second copy of it."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from hunyuan_video.checkpoints.fp8 import block_linears, place_quantized_linears, read_fp8, read_int8
from hunyuan_video.checkpoints.keys import SCALE
from hunyuan_video.checkpoints.locate import open_checkpoint
from hunyuan_video.checkpoints.names import Component
from hunyuan_video.checkpoints.quantized import KINDS, QuantizedSource, chosen_linears
from hunyuan_video.checkpoints.sources import TensorSource
from hunyuan_video.checkpoints.validate import FP8_DTYPES, check_checkpoint, quantized_modules
from hunyuan_video.errors import UserError
from hunyuan_video.forks import check_threads
from hunyuan_video.models.fp8 import BLOCK_LISTS, FP8Linear
from hunyuan_video.models.int8 import Int8Linear
from hunyuan_video.phases import tell

Model = TypeVar("Model", bound=nn.Module)


def load_model(
    model_class: type[Model],
    component: Component,
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    load_key: Literal["module", "ema"] | None = None,
    quantize: Literal["fp8", "int8"] | None = None,
    stream: bool = False,
) -> Model:
    """A model in evaluation mode from a file, a component's folder or a pipeline's root; see `Pretrained`.

    stream: the transformer's blocks stay in the file, and know how they are read (`models/transformer/streamed.py`).
    """
    check_threads()
    if dtype in FP8_DTYPES:
        raise UserError("dtype cannot be an FP8 type, its values need scales; load with quantize='fp8'")
    if quantize not in (None, *KINDS):
        raise ValueError(f"quantize={quantize!r} is unknown; use 'fp8', 'int8' or None")
    checkpoint = open_checkpoint(path, component, load_key)
    source: TensorSource = checkpoint.source
    with torch.device("meta"):
        model = model_class(checkpoint.config)
    check_checkpoint(checkpoint, model)
    blocks = block_linears(model)
    # A plain cast may have made FP8 of every tensor; outside the blocks they are read into the model's dtype.
    stored = [name for name in quantized_modules(source) if f"{name}.{SCALE}" in source.infos or name in blocks]
    dtype = dtype or main_dtype(source)
    if quantize:
        if not blocks:
            text = f"quantize={quantize!r} is for the transformer's blocks; the {component} has none, load it without"
            raise UserError(text)
        fresh = chosen_linears(model, source, keep=())
        source = QuantizedSource(source, fresh, quantize, device or "cpu")
        stored += fresh
    place_quantized_linears(model, stored, source, checkpoint.path)
    modules = [entry for entry in model.named_modules() if entry[1]._parameters or entry[1]._buffers]
    for number, (name, module) in enumerate(modules, 1):
        fill = partial(_fill, source=source, path=name, dtype=dtype)
        if stream and name.split(".")[0] in BLOCK_LISTS:
            vars(module)["stored"] = fill
        else:
            fill(module, torch.device(device or "cpu"))
        tell("loading", number, len(modules))
    return model.eval()


def _fill(module: nn.Module, device: torch.device, source: TensorSource, path: str, dtype: torch.dtype) -> None:
    """Gives every parameter and buffer of a module itself, on the meta device, its value."""
    values = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is None  # else sizes alone are wanted
    if values and isinstance(module, FP8Linear):
        read_fp8(module, source, path, device)
    elif values and isinstance(module, Int8Linear):
        read_int8(module, source, path, device)
    for name, old in [*module._parameters.items(), *module._buffers.items()]:
        if old is not None and old.is_meta:
            kept = old.dtype in FP8_DTYPES or not old.dtype.is_floating_point
            out = torch.empty(old.shape, dtype=old.dtype if kept else dtype, device=device)
            if values:
                source.read_into(out, f"{path}.{name}" if path else name)
            _assign(module, name, out)


def main_dtype(source: TensorSource) -> torch.dtype:
    """The floating-point dtype most elements of a source have, FP8 and scales apart; bfloat16 if all are FP8."""
    counts: Counter[torch.dtype] = Counter()
    for name, info in source.infos.items():
        if not name.endswith(f".{SCALE}") and info.dtype.is_floating_point and info.dtype not in FP8_DTYPES:
            counts[info.dtype] += info.count
    if counts:
        return counts.most_common(1)[0][0]
    return torch.bfloat16 if any(info.dtype in FP8_DTYPES for info in source.infos.values()) else torch.float32


def _assign(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Puts a tensor in the place of a module's own parameter or buffer."""
    old = module._parameters.get(name)
    if old is not None:
        module._parameters[name] = nn.Parameter(tensor, requires_grad=old.requires_grad)
    else:
        module._buffers[name] = tensor
