"""Samples of a bucket for progressive training: drawn and encoded as needed, or read from an encoded data set."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from hunyuan_video.data.buckets import Bucket, Draw
from hunyuan_video.data.captions import Captioner
from hunyuan_video.data.encoder import Encoder, encode_clips
from hunyuan_video.data.latent_dataset import EncodedDataset
from hunyuan_video.data.toyworld import WORLDS, render
from hunyuan_video.errors import UserError
from hunyuan_video.media.pixels import to_unit
from hunyuan_video.training.config import StagesRun

# Latents [B, C, T, h, w] float32, the transformer's text arguments, clips passed over because they could not be read.
Samples = tuple[Tensor, dict[str, Tensor], int]


class Source(Protocol):
    """Source of samples; the same draw and rng give the same samples."""

    contents: str  # of a data set, in short; "" where clips are drawn without end

    def samples(self, draw: Draw, rng: random.Random) -> Samples: ...


class ToyworldSource:
    """Scenes of a toyworld, rendered and encoded on the fly: any shape, endless."""

    contents = ""

    def __init__(self, world: str, seed: int, encoder: Encoder, captioner: Captioner, image_first: bool):
        if world not in WORLDS:
            raise UserError(f"data: toyworld:{world} must be one of {', '.join(f'toyworld:{name}' for name in WORLDS)}")
        self.world, self.seed, self.encoder, self.captioner = WORLDS[world], seed, encoder, captioner
        self.image_first = image_first

    @torch.no_grad()
    def samples(self, draw: Draw, rng: random.Random) -> Samples:
        bucket, vae = draw.bucket, self.encoder.vae
        scenes = [self.world.scene(index, seed=self.seed) for index in range(draw.start, draw.start + draw.count)]
        pixels = render(scenes, num_frames=bucket.frames, size=(bucket.height, bucket.width))
        weight = next(vae.parameters())
        with torch.autocast(weight.device.type, enabled=False):
            video = to_unit(pixels).to(weight.device, weight.dtype)
            latents = encode_clips(vae, video, image_first=self.image_first)
        captions = [self.captioner(scene, rng) for scene in scenes]
        return latents, embed(self.encoder, captions, video=bucket.frames > 1), 0


class EncodedSource:
    """Clips of an encoded data set, each with one of its stored captions."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        buckets: list[Bucket],
        text_dropout: float,
        image_first: bool,
    ):
        self.data = EncodedDataset(folder, image_first=image_first)
        self.seed, self.text_dropout, self.contents = seed, text_dropout, self.data.contents()
        missing = [str(bucket) for bucket in buckets if str(bucket) not in self.data.buckets]
        if missing:
            raise UserError(
                f"{folder}: no clips of bucket {missing[0]} ({len(missing)} of {len(buckets)} buckets are missing); it "
                f"has {', '.join(sorted(self.data.buckets))}; encode them or change the stage"
            )

    def samples(self, draw: Draw, rng: random.Random) -> Samples:
        clips = [self.data.clip(str(draw.bucket), draw.start + i, self.seed) for i in range(draw.count)]
        choices = [-1 if rng.random() < self.text_dropout else rng.randrange(len(clip.captions)) for clip in clips]
        batch = self.data.collate(clips, choices)
        return batch.latents, {"text": batch.text, "text_mask": batch.mask, "pooled_text": batch.pooled}, batch.passed


@torch.no_grad()
def embed(encoder: Encoder, prompts: list[str], *, video: bool) -> dict[str, Tensor]:
    """The transformer's text arguments: text [B, L, text_dim], text_mask [B, L], pooled_text [B, pooled_dim]."""
    with torch.autocast(encoder.device, enabled=False):
        text, pooled = encoder.text(prompts, video=video), encoder.clip(prompts).pooled
    return {"text": text.hidden.float(), "text_mask": text.mask, "pooled_text": pooled.float()}


def open_data(config: StagesRun, buckets: list[Bucket], encoder: Callable[[], Encoder]) -> Source:
    """The source that `config.data` names. Raises UserError."""
    captioner = Captioner(config.text_dropout, config.structured, config.field_dropout)
    kind, colon, world = config.data.partition(":")
    images = bool(config.image_condition)
    if kind == "toyworld" and colon:
        return ToyworldSource(world, config.data_seed, encoder(), captioner, images)
    source = EncodedSource(Path(config.data), config.data_seed, buckets, config.text_dropout, images)
    source.data.check_encoders(encoder().hashes())
    source.data.tell_differences()
    return source
