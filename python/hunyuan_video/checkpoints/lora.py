"""Adapter files: safetensors, saved with the names of diffusers and PEFT, read with those of any program.

`transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight` [rank, K], `.lora_B.weight` [N, rank], alpha = rank.
diffusers has q, k and v apart where the released model has one fused linear: saving cuts B and repeats A, loading
stacks the parts' A and puts their B on a block diagonal, or takes the A once where all parts have the same.
`lora_file` reads what a file says, `lora_build` fits it to a model.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from hunyuan_video.checkpoints.atomic import staged_file
from hunyuan_video.checkpoints.keys import diffusers_modules, halves_swapped
from hunyuan_video.checkpoints.lora_build import adapter_changes
from hunyuan_video.checkpoints.lora_file import AdapterFile, adapter_summary
from hunyuan_video.checkpoints.safetensors_file import TensorInfo, write_safetensors
from hunyuan_video.errors import UserError
from hunyuan_video.models.lora import adapter_names, add_form, lora_layers
from hunyuan_video.models.lora_patches import add_patch

__all__ = ["adapter_summary", "load_adapter", "save_adapter"]

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

    LoRA, DoRA, LoHa, LoKr, differences of weights, biases and norms, at the strength that the file states (see
    `lora_strength`), times `weight`. One trained for image-to-video makes the transformer image-to-video, for good.
    UserError, one line naming file and entry, where the file is damaged, made for another model, or of a form that is
    not supported; the model is then as it was. `adapter_summary` says in one line what a file holds.
    """
    file = AdapterFile(path)
    changes = adapter_changes(model, file)
    if name in adapter_names(model):
        raise UserError(f"{path}: the model has an adapter {name!r} already; remove it or choose another name")
    config = getattr(model, "config", None)
    if condition := file.metadata.get(IMAGE_CONDITION):
        try:
            config = replace(config, image_condition=condition)  # type: ignore[type-var]
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
    for path_of_bias, change in changes.patches.items():
        add_patch(model, name, path_of_bias, change, weight)
    for module, form in changes.forms.items():
        add_form(model, name, module, form, weight)
    if condition:
        model.config = config  # type: ignore[assignment]
    return model


def _split(module: str, pair: Pair) -> dict[str, Pair]:
    """Diffusers module -> its A and B. The rows of q, k and v are as many as A has columns, the rest is the MLP's."""
    a, b = pair
    names = diffusers_modules(module)
    if halves_swapped(module):
        return {names[0]: (a, torch.cat(b.chunk(2)[::-1]))}
    edges = pairwise([a.shape[1] * i for i in range(len(names))] + [b.shape[0]])
    return {name: (a, b[start:stop]) for name, (start, stop) in zip(names, edges, strict=True)}
