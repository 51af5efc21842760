"""The models of the system benchmarks: small HunyuanVideos with random weights, and their twins in diffusers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.results import OURS
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, TransformerConfig, VAEConfig


@dataclass(frozen=True)
class Video:
    """Video that a pipeline makes: frames x height x width pixels in some steps."""

    frames: int
    height: int
    width: int
    steps: int

    @property
    def latent(self) -> tuple[int, int, int]:
        return (self.frames - 1) // 4 + 1, self.height // 8, self.width // 8

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}, {self.steps} steps"


@dataclass(frozen=True)
class Scale:
    """Sizes of everything that is measured. text: tokens per prompt, padding included; words: those of a prompt."""

    transformer: TransformerConfig
    vae: VAEConfig
    small: Video
    large: Video
    text: int
    words: int


# "Mini": a tenth of the released model's width and depth; heads are as wide as there.
MINI = Scale(
    TransformerConfig(
        hidden_size=512, num_heads=4, double_blocks=4, single_blocks=8, text_dim=512, pooled_text_dim=256
    ),
    VAEConfig(block_out_channels=(64, 128, 256, 256)),
    Video(17, 128, 128, 10),
    Video(33, 256, 256, 4),
    text=256,
    words=64,
)
# For --quick and the tests: everything runs, nothing takes time.
QUICK = Scale(
    TransformerConfig(
        hidden_size=64, num_heads=2, double_blocks=1, single_blocks=1, text_dim=16, pooled_text_dim=16,
        rope_dims=(8, 12, 12), refiner_depth=1,
    ),
    VAEConfig(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_groups=4),
    Video(5, 32, 32, 2),
    Video(9, 32, 48, 1),
    text=16,
    words=5,
)  # fmt: skip

SCALES = {"mini": MINI, "quick": QUICK}


def transformer(config: TransformerConfig) -> HunyuanVideoTransformer:
    return _randomized(HunyuanVideoTransformer(config))


def vae(config: VAEConfig) -> CausalVAE:
    return _randomized(CausalVAE(config))


def _randomized(model: Any, seed: int = 0) -> Any:
    """Every weight random, so that a mistake shows; sized so that activations stay near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim > 1:
                weight.copy_(noise * (weight.numel() / weight.shape[0]) ** -0.5)
            else:
                weight.copy_((1 if name.endswith("weight") else 0) + 0.05 * noise)
    return model.eval().requires_grad_(False)


@contextmanager
def saved(*models: HunyuanVideoTransformer | CausalVAE) -> Iterator[Path]:
    """A folder with the weights of models in diffusers' layout, in folders "transformer" and "vae"."""
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            model.save_pretrained(Path(folder) / model.component)
        yield Path(folder)


def load(folder: Path, kind: str, side: str, dtype: str) -> Any:
    """One side's model with saved weights. kind: "transformer" or "vae"."""
    chosen = getattr(torch, dtype)
    if side == OURS:
        ours = {"transformer": HunyuanVideoTransformer, "vae": CausalVAE}[kind]
        return ours.from_pretrained(folder / kind, dtype=chosen).eval().requires_grad_(False)
    import diffusers

    names = {"transformer": "HunyuanVideoTransformer3DModel", "vae": "AutoencoderKLHunyuanVideo"}
    model = getattr(diffusers, names[kind]).from_pretrained(folder / kind, torch_dtype=chosen)
    return model.eval().requires_grad_(False)


def latents(scale: Scale, video: Video, seed: int = 0) -> Tensor:  # [1, C, T, h, w] float32
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, scale.transformer.in_channels, *video.latent), generator=generator)


def prompt(scale: Scale, valid: int | None = None) -> dict[str, Tensor]:
    """Random embeddings of a prompt, of which `valid` tokens (default: all) are not padding."""
    generator = torch.Generator().manual_seed(1)
    config, length = scale.transformer, scale.text
    return {
        "text": torch.randn((1, length, config.text_dim), generator=generator),
        "mask": (torch.arange(length) < (length if valid is None else valid))[None].long(),
        "pooled": torch.randn((1, config.pooled_text_dim), generator=generator),
    }


def as_dtype(tensors: dict[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """Floating tensors in a dtype; masks as they are."""
    chosen = getattr(torch, dtype)
    return {name: value.to(chosen) if value.is_floating_point() else value for name, value in tensors.items()}
