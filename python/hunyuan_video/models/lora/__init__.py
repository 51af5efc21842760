"""Adapters on a model's linears: LoRA and its relatives, side by side or merged into the weights."""

from hunyuan_video.models.lora.layers import (
    LoRALinear,
    active_adapters,
    adapter_names,
    add_adapter,
    add_form,
    lora_layer,
    lora_layers,
    set_adapters,
)
from hunyuan_video.models.lora.merge import delete_adapters, merge_adapters, remove_adapters, unmerge_adapters
from hunyuan_video.models.lora.targets import STREAM_TARGETS, TARGETS, target_linears

__all__ = [
    "STREAM_TARGETS",
    "TARGETS",
    "LoRALinear",
    "active_adapters",
    "adapter_names",
    "add_adapter",
    "add_form",
    "delete_adapters",
    "lora_layer",
    "lora_layers",
    "merge_adapters",
    "remove_adapters",
    "set_adapters",
    "target_linears",
    "unmerge_adapters",
]
