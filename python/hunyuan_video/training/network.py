"""The transformer that a run trains: new, loaded, or frozen with an adapter that is trained; and its export.

An adapter's low-rank products are trained in float32 beside weights that stay as they are, FP8 ones included (nothing
is dequantized: the branch is a second, small product).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from hunyuan_video.checkpoints.lora import save_adapter
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.lora import STREAM_TARGETS, add_adapter, target_linears
from hunyuan_video.training.config import LoRAConfig
from hunyuan_video.training.parts import load_trainable

NAME = "lora"
FILE = "lora.safetensors"


def make_network(init_from: str, model: dict, lora: LoRAConfig, image_condition: str) -> HunyuanVideoTransformer:
    """The transformer to train, in float32: new (from TransformerConfig fields), from a file, or with an adapter.

    image_condition: of the run's config. A text-to-video checkpoint becomes an image-to-video one by it: the weights
    are the same. Raises UserError where the checkpoint is image-to-video and the run is not, for an adapter without
    weights to adapt, a negative rank or targets that match nothing, and for FP8 weights without an adapter.
    """
    if lora.rank and not init_from:
        raise UserError("lora: an adapter needs weights to adapt; set init_from to an exported transformer")
    if init_from and lora.rank:
        network = HunyuanVideoTransformer.from_pretrained(init_from, dtype=torch.float32)
    elif init_from:
        network = load_trainable(init_from)
    else:
        network = HunyuanVideoTransformer(TransformerConfig(**model))
    if network.config.image_condition and not image_condition:
        raise UserError(
            f"{init_from or 'model'} is image-to-video; set image_condition: {network.config.image_condition}"
        )
    try:
        network.config = replace(network.config, image_condition=image_condition)
    except ValueError as error:
        raise UserError(str(error)) from error
    if not lora.rank:
        return network
    network.requires_grad_(False)
    try:
        paths = target_linears(network, lora.targets or STREAM_TARGETS)
        alphas = dict.fromkeys(paths, lora.alpha) if lora.alpha else None
        add_adapter(network, NAME, dict.fromkeys(paths, lora.rank), alphas)
    except ValueError as error:
        raise UserError(f"lora: {error}") from error
    return network


def check_frames(network: HunyuanVideoTransformer, where: str, latent_frames: int) -> None:
    """UserError where image-to-video is left with nothing to learn: clips of one latent frame, which is given."""
    if network.config.image_condition and latent_frames < 2:
        raise UserError(f"{where}: image-to-video is given the first latent frame; train on clips of 5 frames or more")


def export_network(network: HunyuanVideoTransformer, lora: LoRAConfig, folder: Path) -> None:
    """A checkpoint folder, or the adapter's file with diffusers' names in the folder."""
    if lora.rank:
        folder.mkdir(parents=True, exist_ok=True)
        save_adapter(network, NAME, folder / FILE)
    else:
        network.save_pretrained(folder)
