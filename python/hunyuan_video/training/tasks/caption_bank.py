"""Latents and embedded captions in the memory of the device that trains: no step waits for the host.

A small transformer on a GPU takes a few milliseconds a step; a batch of captions takes a CPU longer to write and embed.
Embedded captions lie on disk in shards of 512 clips, beside the latents, which any number of processes may fill.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hunyuan_video.data.cache import SHARD
from hunyuan_video.data.encoder import text_fingerprint
from hunyuan_video.data.toyworld import caption
from hunyuan_video.data.world import WorldConfig, scenes_of
from hunyuan_video.files import staged_file
from hunyuan_video.models import ClipTextEncoder, TextEncoder
from hunyuan_video.training.tasks.fields import Condition

BATCH = 1024  # captions embedded at once


class Embedder:
    """Both text encoders, wherever they are."""

    def __init__(self, text: TextEncoder, clip: ClipTextEncoder):
        self.text, self.clip = text, clip

    @torch.no_grad()
    def __call__(self, prompts: list[str]) -> Condition:
        """The transformer's text arguments: text [B, L, text_dim], text_mask [B, L], pooled_text [B, pooled_dim]."""
        text, pooled = self.text(prompts), self.clip(prompts).pooled
        return {"text": text.hidden, "text_mask": text.mask, "pooled_text": pooled}

    @property
    def fingerprint(self) -> str:
        return text_fingerprint(self.text, self.clip)


def captions_of(world: WorldConfig, start: int, count: int, each: int) -> list[str]:
    """`each` captions of the clips [start, start + count), those of a clip together."""
    rng = random.Random(f"captions {world.seed} {start}")
    return [caption(scene, rng).text for scene in scenes_of(world, start, count) for _ in range(each)]


def caption_shards(
    world: WorldConfig, each: int, embed: Embedder, folder: Path, report: Callable[[str], None] = print
) -> list[Path]:
    """Files of `each` embedded captions of all clips, by shards; missing ones are made now."""
    key = f"captions_{world.name}_{world.seed}_{each}_{embed.fingerprint}"
    paths = [folder / key / f"{shard:05d}.npz" for shard in range(-(-world.clips // SHARD))]
    for shard, path in enumerate(paths):
        if not path.exists():
            report(f"embedding captions of clips {shard * SHARD}..{(shard + 1) * SHARD - 1} of {world.clips}")
            _embed_shard(captions_of(world, shard * SHARD, SHARD, each), embed, path)
    return paths


def _embed_shard(texts: list[str], embed: Embedder, path: Path) -> None:
    parts = [embed(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    whole = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    text, lengths = whole["text"].half().numpy(), whole["text_mask"].sum(dim=1).to(torch.int16).numpy()
    with staged_file(path) as file:
        np.savez(file, text=text, lengths=lengths, pooled_text=whole["pooled_text"].float().numpy())


class CaptionBank:
    """Draws clips with one of their captions.

    latents: [clips, C, T, h, w], kept on `device` as they are. paths: of `caption_shards`, `each` captions of a clip.
    empty: the embedded empty caption, one row; dropout: how often it takes the place of a clip's.
    """

    def __init__(self, latents: Tensor, paths: list[Path], each: int, empty: Condition, dropout: float, device: str):
        self.each, self.dropout, self.device = each, dropout, torch.device(device)
        self.latents = latents.to(device)
        shards = [np.load(path) for path in paths]
        rows = len(latents) * each
        lengths = _joined(shards, "lengths", rows).long()
        longest = max(int(lengths.max()), int(empty["text_mask"].sum()), 1)
        mask = (torch.arange(longest, device="cpu") < lengths[:, None]).long()
        parts = {"text": _joined(shards, "text", rows)[:, :longest], "text_mask": mask,
                 "pooled_text": _joined(shards, "pooled_text", rows)}  # fmt: skip
        cut = {name: row[:, :longest] if row.ndim > 1 and name != "pooled_text" else row for name, row in empty.items()}
        self.condition = {
            name: torch.cat((part.to(device), cut[name].to(device, part.dtype))) for name, part in parts.items()
        }

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Callable[[], Condition]]:
        """[count, C, T, h, w] float32 and what gives their text. generator: of this device."""
        picks = torch.randint(len(self.latents), (count,), generator=generator, device=self.device)

        def condition() -> Condition:
            which = torch.randint(self.each, (count,), generator=generator, device=self.device)
            draws = torch.rand(count, generator=generator, device=self.device, dtype=torch.float32)
            empty = len(self.latents) * self.each  # the last row
            rows = torch.where(draws < self.dropout, empty, picks * self.each + which)
            drawn = {name: rows_of[rows] for name, rows_of in self.condition.items()}
            return {**drawn, "text": drawn["text"].float()}

        return self.latents[picks].float(), condition


def _joined(shards: list, name: str, rows: int) -> Tensor:
    return torch.cat([torch.from_numpy(shard[name]) for shard in shards])[:rows]
