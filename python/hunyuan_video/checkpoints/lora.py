"""Adapter files: safetensors, saved with the names of diffusers and PEFT, read with those of any program.

`transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight` [rank, K], `.lora_B.weight` [N, rank], alpha = rank.
diffusers has q, k and v apart where the released model has one fused linear: saving cuts B and repeats A, loading
stacks the parts' A and puts their B on a block diagonal, or takes the A once where all parts have the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from hunyuan_video.checkpoints.atomic import staged_file
from hunyuan_video.checkpoints.keys import diffusers_modules, halves_swapped
from hunyuan_video.checkpoints.lora_names import TEXT_ENCODER, lora_target
from hunyuan_video.checkpoints.safetensors_file import SafetensorsFile, TensorInfo, write_safetensors
from hunyuan_video.errors import UserError
from hunyuan_video.models.fp8 import FP8Linear
from hunyuan_video.models.lora import LoRALinear, add_adapter, lora_layer, lora_layers

PREFIX = "transformer."
IMAGE_CONDITION = "image_condition"  # metadata, and field of the transformer's config
Pair = tuple[Tensor, Tensor]  # A [rank, K], B [N, rank]; the product is the change of the weight


def save_adapter(model: nn.Module, name: str, path: str | Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Writes the adapter `name` of a transformer; alpha is multiplied into B. UserError where there is no such one.

    That of an image-to-video transformer says so in the file's metadata.
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    for module, layer in lora_layers(model):
        if name in layer.adapters:
            adapter = layer.adapter(name)
            pair = (adapter.lora_A.detach(), adapter.lora_B.detach() * (adapter.alpha / adapter.rank))
            for target, (a, b) in _split(module, pair).items():
                tensors[f"{PREFIX}{target}.lora_A.weight"] = a
                tensors[f"{PREFIX}{target}.lora_B.weight"] = b
    if not tensors:
        raise UserError(f"the model has no adapter {name!r} to save to {path}")
    infos = {key: TensorInfo(tuple(value.shape), dtype) for key, value in tensors.items()}
    condition = getattr(getattr(model, "config", None), IMAGE_CONDITION, "")
    with staged_file(path) as file:
        metadata = {IMAGE_CONDITION: condition} if condition else None
        write_safetensors(file, infos, lambda key: tensors[key].to(dtype), metadata)
    return path


def load_adapter(model: nn.Module, path: str | Path, name: str = "default", weight: float = 1.0) -> nn.Module:
    """Puts the adapter of a file on a transformer under `name`, active and not merged; returns the model.

    One trained for image-to-video makes the transformer image-to-video, for good. UserError, one line naming file and
    tensor, where the file is damaged or made for another model.
    """
    path = Path(path)
    file = SafetensorsFile(path)
    pairs = read_adapter(model, file)
    try:
        add_adapter(model, name, {module: pair[0].shape[0] for module, pair in pairs.items()}, weight=weight)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    with torch.no_grad():
        for module, (a, b) in pairs.items():
            adapter = lora_layer(model, module).adapter(name)
            adapter.lora_A.copy_(a)
            adapter.lora_B.copy_(b)
    if condition := file.metadata.get(IMAGE_CONDITION):
        try:
            model.config = replace(model.config, image_condition=condition)  # type: ignore[type-var]
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
    return model


def read_adapter(model: nn.Module, file: SafetensorsFile) -> dict[str, Pair]:
    """A and B, float32, of every module (official path) that a file changes; alpha / rank is multiplied into B."""
    path = file.path
    parts: dict[str, dict[int | None, dict[str, Tensor]]] = {}
    for key, info in file.infos.items():
        if TEXT_ENCODER.match(key):
            raise UserError(f"{path}: {key!r} changes a text encoder; only adapters of the transformer can be loaded")
        found = lora_target(key)
        if found is None or len(info.shape) != (0 if found.leaf == "alpha" else 2) and info.count != 1:
            raise UserError(
                f"{path}: {key!r} is no low-rank weight of a HunyuanVideo transformer in the names of diffusers, PEFT, "
                "ComfyUI or kohya"
            )
        tensor = torch.empty(info.shape, dtype=torch.float32)
        file.read_into(tensor, key)
        if not info.dtype.is_floating_point or not tensor.isfinite().all():
            raise UserError(f"{path}: {key!r} holds values that are no finite numbers; the file is damaged")
        parts.setdefault(found.module, {}).setdefault(found.part, {})[found.leaf] = tensor
    if not parts:
        raise UserError(f"{path}: holds no low-rank weights; copy or download the file again")
    return {module: _pair(model, module, found, path) for module, found in parts.items()}


def _pair(model: nn.Module, module: str, found: dict[int | None, dict[str, Tensor]], path: Path) -> Pair:
    """The pair of a module from a file that has it whole, or in diffusers' parts."""
    for part in found.values():
        alpha = part.pop("alpha", None)
        if alpha is not None and "A" in part and "B" in part:
            part["B"] = part["B"] * (alpha.item() / len(part["A"]))
    if None not in found:
        return _fuse(model, module, {index: pair for index, pair in found.items() if index is not None}, path)
    if len(found) > 1:
        raise UserError(f"{path}: changes {module} as a whole and in parts; it is damaged")
    linear = _linear(model, module, path)
    _check(found[None], (0, linear.out_features), linear.in_features, module, path)
    return found[None]["A"], found[None]["B"]


def _linear(model: nn.Module, module: str, path: Path) -> nn.Linear | FP8Linear:
    try:
        layer = model.get_submodule(module)
    except AttributeError:
        raise UserError(f"{path}: the model has no {module}: this adapter is for a larger one") from None
    linear = layer.base_layer if isinstance(layer, LoRALinear) else layer
    if not isinstance(linear, nn.Linear | FP8Linear):
        raise UserError(f"{path}: {module} is no linear of this model")
    return linear


def _split(module: str, pair: Pair) -> dict[str, Pair]:
    """Diffusers module -> its A and B. The rows of q, k and v are as many as A has columns, the rest is the MLP's."""
    a, b = pair
    names = diffusers_modules(module)
    if halves_swapped(module):
        return {names[0]: (a, torch.cat(b.chunk(2)[::-1]))}
    return {name: (a, b[start:stop]) for name, (start, stop) in zip(names, _rows(a, b.shape[0], names), strict=True)}


def _rows(a: Tensor, total: int, names: tuple[str, ...]) -> list[tuple[int, int]]:
    return list(pairwise([a.shape[1] * i for i in range(len(names))] + [total]))


def _fuse(model: nn.Module, module: str, parts: Mapping[int, Mapping[str, Tensor]], path: Path) -> Pair:
    """One pair for an official module from those of its diffusers parts; a part that is absent changes nothing."""
    linear = _linear(model, module, path)
    rows = _rows(linear.weight, linear.out_features, diffusers_modules(module))
    for index, pair in parts.items():
        _check(pair, rows[index], linear.in_features, diffusers_modules(module)[index], path)
    downs = [pair["A"] for pair in parts.values()]
    shared = len(parts) == len(rows) and all(torch.equal(down, downs[0]) for down in downs)
    rank = downs[0].shape[0] if shared else sum(len(down) for down in downs)
    b, column = torch.zeros(linear.out_features, rank), 0
    for index, pair in parts.items():
        start, stop = rows[index]
        width = len(pair["A"])
        b[start:stop, column : column + width] = pair["B"]
        column += 0 if shared else width
    if halves_swapped(module):
        b = torch.cat(b.chunk(2)[::-1])
    return (downs[0] if shared else torch.cat(downs)), b


def _check(pair: Mapping[str, Tensor], rows: tuple[int, int], columns: int, module: str, path: Path) -> None:
    if set(pair) != {"A", "B"}:
        raise UserError(f"{path}: {module} has only one of lora_A and lora_B; copy or download the file again")
    a, b = pair["A"].shape, pair["B"].shape
    if a[1] != columns or b[0] != rows[1] - rows[0] or a[0] != b[1]:
        raise UserError(
            f"{path}: {module} has lora_A {list(a)} and lora_B {list(b)}, the model takes [rank, {columns}] and "
            f"[{rows[1] - rows[0]}, rank]: this adapter is for another model"
        )
