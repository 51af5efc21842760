"""Adapter files: read in the names of any program, saved in those of the one that is to read them.

diffusers has q, k and v apart where the released model has one fused linear: saving cuts B and repeats A, loading
stacks the parts' A and puts their B on a block diagonal, or takes the A once where all parts have the same.
`lora_file` reads what a file says, `lora_build` fits it to a model, `lora_save` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from hunyuan_video.checkpoints.lora_build import Changes, adapter_changes
from hunyuan_video.checkpoints.lora_file import AdapterFile, adapter_summary
from hunyuan_video.checkpoints.lora_origin import check_base
from hunyuan_video.checkpoints.lora_save import Names, write_adapter
from hunyuan_video.checkpoints.lora_strength import FIELDS, STATED
from hunyuan_video.errors import UserError, notify
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.lora import adapter_names, add_form, lora_layers
from hunyuan_video.models.lora.patches import add_patch, patches
from hunyuan_video.writers import one_writer

__all__ = ["adapter_summary", "check_adapter_base", "convert_adapter", "load_adapter", "save_adapter"]

IMAGE_CONDITION = "image_condition"  # metadata, and field of the transformer's config


def save_adapter(
    model: nn.Module,
    name: str,
    path: str | Path,
    dtype: torch.dtype = torch.bfloat16,
    names: Names = "diffusers",
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes the adapter `name` of a transformer in the names of a program (see `lora_save`); returns the path.

    metadata: more of the header, e.g. trigger words. That of an image-to-video transformer says so there. UserError
    where there is no such adapter, and for a form that the names cannot hold.
    """
    path = Path(path)
    changes = Changes(
        {module: layer.form(name) for module, layer in lora_layers(model) if name in layer.adapters},
        {patch.path: patch.change(name) for patch in patches(model) if name in patch.names},
    )
    if not changes.forms and not changes.patches:
        raise UserError(f"the model has no adapter {name!r} to save to {path}")
    condition = getattr(getattr(model, "config", None), IMAGE_CONDITION, "")
    header = {**(metadata or {}), **({IMAGE_CONDITION: condition} if condition else {})}
    return write_adapter(path, changes, names, dtype, header)


def convert_adapter(
    src: str | Path,
    dst: str | Path,
    names: Names,
    dtype: torch.dtype | None = None,
    config: TransformerConfig | None = None,
) -> Path:
    """Writes an adapter file again in other names, at the same strength; no base weights are needed.

    dtype: default that of most of the file. config: of the transformer it is for; default the released model's.
    Raises UserError where a layer cannot be expressed in the names or does not fit the model.
    """
    src, dst = Path(src).expanduser(), Path(dst).expanduser()
    if dst.suffix != ".safetensors":
        raise UserError(f"{dst}: adapters are written as safetensors; give a name that ends in .safetensors")
    if dst.resolve() == src.resolve():
        raise UserError(f"source and destination are both {src}; give another destination")
    with one_writer(dst, "converts", beside=True):
        return _convert_adapter(src, dst, names, dtype, config)


def _convert_adapter(
    src: Path, dst: Path, names: Names, dtype: torch.dtype | None, config: TransformerConfig | None
) -> Path:
    file = AdapterFile(src)
    for layer in file.layers:
        if "set" in layer.leaves or "set_bias" in layer.leaves:
            raise UserError(f"{src}: {layer.name} is a whole weight, whose change is known only beside the model's own")
    with torch.device("meta"):
        model = HunyuanVideoTransformer(config or TransformerConfig())
    kept = {key: value for key, value in file.metadata.items() if key not in STATED and not key.startswith("sshs_")}
    kept = {key: value for key, value in kept.items() if key.rpartition(".")[2] not in FIELDS and key != "format"}
    try:
        changes = adapter_changes(model, file)
    except UserError as error:
        raise UserError(f"{error}; --model names the checkpoint it is for" if config is None else str(error)) from error
    for notice in file.notices:
        notify(notice)
    return write_adapter(dst, changes, names, dtype or file.main_dtype(), kept)


def check_adapter_base(model: nn.Module, path: str | Path) -> None:
    """A Notice where an adapter's file says that it was trained beside other weights; for models without adapters."""
    check_base(model, Path(path), AdapterFile(path).metadata)


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
    for notice in file.notices:
        notify(notice)
    for path_of_bias, change in changes.patches.items():
        add_patch(model, name, path_of_bias, change, weight)
    for module, form in changes.forms.items():
        add_form(model, name, module, form, weight)
    if condition:
        model.config = config  # type: ignore[assignment]
    return model
