"""Models that a plan is about: configurations and bytes, from a checkpoint's headers or of the released model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hunyuan_video.checkpoints.layout import part_folders
from hunyuan_video.checkpoints.locate import open_checkpoint
from hunyuan_video.checkpoints.pipeline import prompt_template
from hunyuan_video.checkpoints.text import open_weights
from hunyuan_video.checkpoints.validate import fp8_modules
from hunyuan_video.files import read_json
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig, VAEConfig
from hunyuan_video.models.fp8 import BLOCK_LISTS, convert_to_fp8_modules, fp8_linears
from hunyuan_video.models.grid import Grid
from hunyuan_video.models.int8 import Int8Linear
from hunyuan_video.models.pretrained import SkipInit
from hunyuan_video.models.text.clip import ClipTextConfig
from hunyuan_video.models.text.llama import LlamaConfig
from hunyuan_video.models.text.templates import HUNYUAN_TEMPLATE
from hunyuan_video.planning.live import tensor_bytes

RELEASED = "released"  # name of the 13B model, for plans without weights
LLAMA = LlamaConfig(
    vocab_size=128320, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8, rms_norm_eps=1e-5, rope_theta=500000.0,
)  # fmt: skip
CLIP = ClipTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)


@dataclass(frozen=True)
class Encoder:
    """A text encoder: its configuration (None: of another kind), bytes of its weights and the tokens that it reads."""

    config: Any
    elements: int
    dtype: torch.dtype
    tokens: int

    @property
    def streamed(self) -> int:
        """Values that are in place at once when its layers come one by one: embedding, a layer; else all."""
        if not isinstance(self.config, LlamaConfig):
            return self.elements
        config = self.config
        heads = 2 * config.hidden_size + 2 * config.kv_heads * config.head_size
        layer = config.hidden_size * (heads + 3 * config.intermediate_size + 2)
        return min(config.vocab_size * config.hidden_size + layer, self.elements)


@dataclass(frozen=True)
class Sizes:
    """All that a plan knows of a model. stored: of the transformer's blocks, "bf16" (or another dtype's) or "fp8"."""

    name: str
    transformer: TransformerConfig
    stored: str
    vae: VAEConfig | None
    text: Encoder | None
    clip: Encoder | None
    text_length: int = 256

    @property
    def grid(self) -> Grid:
        return Grid.of(self.vae, self.transformer)


def released_sizes() -> Sizes:
    """The released 13B model, guidance-distilled, with its language model and CLIP in float16."""
    text = Encoder(LLAMA, 8_030_000_000, torch.float16, HUNYUAN_TEMPLATE.text_length + 95)
    clip = Encoder(CLIP, 123_060_480, torch.float16, 77)
    return Sizes(RELEASED, TransformerConfig(), "bf16", VAEConfig(), text, clip)


def checkpoint_sizes(folder: Path, name: str) -> Sizes:
    """A checkpoint's, from its configs and headers; parts that are not there are left out."""
    folders = part_folders(folder)
    checkpoint = open_checkpoint(folders["transformer"], "transformer")
    blocks = [path for path in fp8_modules(checkpoint.source) if path.split(".")[0] in BLOCK_LISTS]
    vae = open_checkpoint(folders["vae"], "vae").config if folders["vae"].is_dir() else None
    assert isinstance(checkpoint.config, TransformerConfig)
    template = prompt_template(folder)
    text = _encoder(folders["text_encoder"], LlamaConfig, template.text_length + template.video.crop_start)
    clip = _encoder(folders["clip_text_encoder"], ClipTextConfig, 77)
    if clip is not None and clip.config is not None:
        clip = replace(clip, tokens=min(77, clip.config.max_position_embeddings))
    return Sizes(
        name, checkpoint.config, "fp8" if blocks else "bf16",
        vae if isinstance(vae, VAEConfig) else None, text, clip, template.text_length,
    )  # fmt: skip


def _encoder(folder: Path, kind: Any, tokens: int) -> Encoder | None:
    if not folder.is_dir():
        return None
    values = read_json(folder / "config.json")
    try:
        config = kind.from_dict(values.get("text_config", values))
    except (ValueError, TypeError):
        config = None
    infos = open_weights(folder).infos
    dtype = max((info.dtype for info in infos.values()), key=lambda dtype: dtype.itemsize)
    return Encoder(config, sum(info.count for info in infos.values()), dtype, tokens)


def few_blocks(config: TransformerConfig) -> TransformerConfig:
    """The same with one block of each kind that it has: a step's peak does not depend on how many there are."""
    return replace(config, double_blocks=min(config.double_blocks, 1), single_blocks=min(config.single_blocks, 1))


def empty_transformer(config: TransformerConfig, precision: str, dtype: torch.dtype) -> HunyuanVideoTransformer:
    """A transformer on the meta device with its blocks in a precision."""
    with torch.device("meta"), SkipInit():
        model = HunyuanVideoTransformer(config).to(dtype).eval().requires_grad_(False)
    if precision == "fp8":
        convert_to_fp8_modules(model)
    elif precision == "int8":
        for path, linear in list(fp8_linears(model)):
            assert isinstance(linear, nn.Linear)
            parent, _, leaf = path.rpartition(".")
            small = Int8Linear(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
            setattr(model.get_submodule(parent), leaf, small.to(dtype))
    return model


@dataclass(frozen=True)
class Weights:
    """Bytes of a transformer's weights: blocks without their modulations (doubles first), modulations, the rest."""

    blocks: tuple[int, ...]
    modulations: int
    largest_modulation: int
    outside: int

    @property
    def total(self) -> int:
        return sum(self.blocks) + self.modulations + self.outside

    @property
    def streamed(self) -> int:
        """Two blocks: one at work, one on its way."""
        return 2 * max(self.blocks, default=0)


def weights_of(config: TransformerConfig, precision: str, dtype: torch.dtype) -> Weights:
    model = empty_transformer(few_blocks(config), precision, dtype)
    counts = {"double_blocks": config.double_blocks, "single_blocks": config.single_blocks}
    blocks: list[int] = []
    modulations = largest = inside = 0
    for name, count in counts.items():
        for block in list(getattr(model, name))[:1]:
            parts = [part for child, part in block.named_children() if child.endswith(("_mod", "modulation"))]
            small, whole = sum(map(tensor_bytes, parts)), tensor_bytes(block)
            blocks += [whole - small] * count
            modulations += small * count
            largest = max([largest, *map(tensor_bytes, parts)])
            inside += whole
    return Weights(tuple(blocks), modulations, largest, tensor_bytes(model) - inside)
