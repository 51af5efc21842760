"""The student: an adapter on the frozen teacher's weights, or a copy of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from hunyuan_video.checkpoints.lora import load_adapter, save_adapter
from hunyuan_video.checkpoints.lora_origin import origin_header
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.lora import TARGETS, add_adapter, target_linears
from hunyuan_video.training.parts import load_trainable
from hunyuan_video.training.tasks.fields import Condition, velocity_field

ADAPTER = "few_step"
ADAPTER_FILE = "few_step.safetensors"


def make_student(
    path: str,
    rank: int,
    targets: tuple[str, ...] = (),
    adapter: str = "",  # a file to start from
) -> HunyuanVideoTransformer:
    """The transformer at `path`, in float32, with what is to be trained; rank 0: everything."""
    if not rank:
        return load_trainable(path)
    network = HunyuanVideoTransformer.from_pretrained(path, dtype=torch.float32)
    if adapter:
        return load_adapter(network, adapter, ADAPTER).requires_grad_(False).apply(_thaw)
    network.requires_grad_(False)
    try:
        add_adapter(network, ADAPTER, dict.fromkeys(target_linears(network, targets or TARGETS), rank))
    except ValueError as error:
        raise UserError(f"targets: {error}") from error
    return network


def _thaw(module: torch.nn.Module) -> None:
    for name, parameter in module.named_parameters(recurse=False):
        if name in ("lora_A", "lora_B"):
            parameter.requires_grad_(True)


def export_student(
    network: HunyuanVideoTransformer, rank: int, folder: Path, settings: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """A checkpoint folder, or for an adapter its file in the folder, with its settings and its base in the header.

    settings: sampling defaults that go with the student.
    """
    if rank:
        header = origin_header(network, settings)
        save_adapter(network, ADAPTER, folder / ADAPTER_FILE, metadata=header)
    else:
        network.save_pretrained(folder)


def predict(
    network: HunyuanVideoTransformer,
    latents: Tensor,  # [B, C, T, h, w]
    times: Tensor,  # [B] 0..1
    condition: Condition,
    guidance: float,
) -> Tensor:
    """One pass at a fixed guidance scale: velocity [B, C, T, h, w] float32."""
    return velocity_field(network, condition, guidance if network.config.guidance_embed else None)(latents, times)
