"""Adapters of a whole model merged into its weights, and taken out again."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from hunyuan_video.models.int8 import QuantizedLinear
from hunyuan_video.models.lora.layers import lora_layers
from hunyuan_video.models.lora.patches import delete_patches, remove_patches


def merge_adapters(model: nn.Module) -> None:
    """Adds every active adapter to its base weight, so that it costs nothing in a forward; undone exactly."""
    for _, layer in lora_layers(model):
        layer.merge()


def unmerge_adapters(model: nn.Module) -> None:
    """Every base weight as it was before `merge_adapters`, bit for bit."""
    for _, layer in lora_layers(model):
        layer.unmerge()


def delete_adapters(model: nn.Module, names: Iterable[str]) -> None:
    """Forgets these adapters, active or not; merged layers are unmerged first, those without adapters plain again."""
    names = frozenset(names)
    for path, layer in list(lora_layers(model)):
        if names.isdisjoint(layer.adapters):
            continue
        layer.unmerge()
        layer.weights = {name: weight for name, weight in layer.weights.items() if name not in names}
        for name in names & set(layer.adapters):
            del layer.adapters[name]
        if not layer.adapters:
            parent, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(parent), leaf, layer.base_layer)
    delete_patches(model, names)


def remove_adapters(model: nn.Module, *, keep_merged: bool = False) -> nn.Module:
    """Plain linears again, with their original weights, or with `keep_merged` with what is merged into them.

    With `keep_merged` the adapters beside FP8 weights stay: nothing can be merged into those.
    """
    for path, layer in list(lora_layers(model)):
        if keep_merged and isinstance(layer.base_layer, QuantizedLinear):
            continue
        if keep_merged and layer.fused:
            layer.plain = True
            continue
        if not keep_merged:
            layer.unmerge()
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer.base_layer)
    remove_patches(model, keep=keep_merged)
    return model
