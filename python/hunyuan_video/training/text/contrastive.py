"""Trains the tiny CLIP text model against a small video encoder: each caption must find its clip, and the reverse."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hunyuan_video.data.toyworld import render
from hunyuan_video.data.toyworld.scene import AnyScene, AnyWorld
from hunyuan_video.errors import UserError
from hunyuan_video.media.pixels import to_unit
from hunyuan_video.models.text import ClipTextConfig, ClipTextModel, NativeTokenizer
from hunyuan_video.rules import ABOVE_ZERO, AT_LEAST_ONE, NOT_NEGATIVE, limited
from hunyuan_video.training.text.captions import attribute_sizes, describe, labels
from hunyuan_video.training.text.descent import Descent
from hunyuan_video.training.text.heads import AttributeHeads

GROUP = 4  # clips in a batch that share both colors, so that the colors alone do not tell them apart


@dataclass(frozen=True)
class ClipConfig:
    """Sizes and schedule. clips: how many clips are rendered once and drawn from. frames, size: what the video encoder
    sees. embed: width of the common space. attribute_weight: weight of the attribute losses of both encoders."""

    hidden_size: int = limited(96, AT_LEAST_ONE)
    intermediate_size: int = limited(192, AT_LEAST_ONE)
    layers: int = limited(2, AT_LEAST_ONE)
    heads: int = limited(4, AT_LEAST_ONE)
    embed: int = limited(64, AT_LEAST_ONE)
    clips: int = limited(6000, AT_LEAST_ONE)
    frames: int = limited(6, AT_LEAST_ONE)
    size: int = 40
    steps: int = limited(1200, AT_LEAST_ONE)
    batch: int = limited(128, AT_LEAST_ONE)
    learning_rate: float = limited(1.5e-3, ABOVE_ZERO)
    attribute_weight: float = limited(0.5, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        if min(self.clips, self.batch) < GROUP:
            raise UserError(f"clips and batch must be at least {GROUP}, got {self.clips} and {self.batch}")
        if self.hidden_size % self.heads:
            raise UserError(f"hidden_size {self.hidden_size} must be a multiple of heads = {self.heads}")


class VideoEncoder(nn.Module):
    """Frames stacked as channels, four strided convolutions, one vector per clip."""

    def __init__(self, frames: int, size: int, embed: int):
        super().__init__()
        widths = (3 * frames, 48, 64, 96, 128)
        layers: list[nn.Module] = []
        for index, (narrow, wide) in enumerate(zip(widths, widths[1:], strict=False)):
            kernel = 5 if index == 0 else 3
            layers += [nn.Conv2d(narrow, wide, kernel, 2, kernel // 2), nn.GroupNorm(8, wide), nn.GELU()]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.out = nn.Linear(128 * math.ceil(size / 16) ** 2, embed)

    def forward(self, clips: Tensor) -> Tensor:  # [B, F, H, W, 3] uint8 -> [B, embed]
        x = to_unit(clips).transpose(1, 2).flatten(1, 2)
        return self.out(self.body(x))


class Contrast(nn.Module):
    """The parts of the training that are thrown away afterwards: video encoder, projection, temperature, heads."""

    def __init__(self, config: ClipConfig, sizes: dict[str, int]):
        super().__init__()
        self.video = VideoEncoder(config.frames, config.size, config.embed)
        self.text_projection = nn.Linear(config.hidden_size, config.embed, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.video_heads = AttributeHeads(config.embed, sizes)
        self.text_heads = AttributeHeads(config.hidden_size, sizes)

    def similarity(self, pooled: Tensor, video: Tensor) -> Tensor:  # [B, D], [B, embed] -> [B, B]
        """Scaled cosine of every text (rows) with every clip (columns)."""
        text = F.normalize(self.text_projection(pooled).float(), dim=1)
        return self.log_scale.clamp(max=math.log(100.0)).exp() * text @ F.normalize(video.float(), dim=1).T


def info_nce(similarity: Tensor) -> Tensor:  # [B, B] -> scalar
    """Cross-entropy of the right partner, averaged over both directions."""
    target = torch.arange(len(similarity), device="cpu")
    return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2


def train_clip(
    world: AnyWorld,
    tokenizer: Any,
    config: ClipConfig,
    *,
    positions: int,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> tuple[ClipTextModel, Contrast, list[float]]:
    """The trained text model in float32, the rest of the contrast (for evaluation), and the loss of every step."""
    torch.manual_seed(seed + 1)
    sizes = attribute_sizes(world)
    model, contrast = ClipTextModel(_clip_config(tokenizer, config, positions)), Contrast(config, sizes)
    model.apply(_init)
    parameters = [*model.parameters(), *contrast.parameters()]
    descent = Descent(parameters, config.learning_rate, config.steps)
    encode = NativeTokenizer(tokenizer, pad_id=0)
    scenes = grouped_scenes(world, config.clips, seed)
    clips = render(scenes, num_frames=config.frames, size=config.size)
    log(f"clip: {len(scenes)} clips rendered")
    rng = random.Random(seed)
    for step in range(config.steps):
        groups = rng.sample(range(len(scenes) // GROUP), min(config.batch, len(scenes)) // GROUP)
        chosen = [group * GROUP + member for group in groups for member in range(GROUP)]
        batch = [scenes[i] for i in chosen]
        texts = [describe(scene, rng) for scene in batch]
        tokens = encode(texts, positions)
        length = int(tokens.mask.sum(dim=1).max())
        mentioned, shown = labels(world, batch, texts), labels(world, batch)
        with torch.autocast("cpu", torch.bfloat16):
            pooled, video = model(tokens.ids[:, :length])[1], contrast.video(clips[chosen])
            match = info_nce(contrast.similarity(pooled, video))
            known = contrast.text_heads.loss(pooled, mentioned) + contrast.video_heads.loss(video, shown)
        descent.step(match + config.attribute_weight * known)
        if step % 100 == 0 or step == config.steps - 1:
            log(f"clip {step}: match {match.item():.3f}, attributes {known.item():.3f}")
    return model.eval().requires_grad_(False), contrast.eval().requires_grad_(False), descent.losses


def grouped_scenes(world: AnyWorld, count: int, seed: int, split: str = "train") -> list[AnyScene]:
    """Scenes in runs of GROUP with the colors of the first of the run; about a tenth of those leave the split."""
    scenes: list[Any] = list(world.scenes(count // GROUP * GROUP, seed=seed + 100, split=split))
    for first in range(0, len(scenes), GROUP):
        lead = scenes[first]
        for index in range(first + 1, first + GROUP):
            scenes[index] = world.alike(scenes[index], lead)
    return scenes


def _clip_config(tokenizer: Any, config: ClipConfig, positions: int) -> ClipTextConfig:
    return ClipTextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=positions,
        eos_token_id=tokenizer.token_to_id("<|endoftext|>"),
    )


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.3)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.7 * module.in_features**-0.5)
        nn.init.zeros_(module.bias)
