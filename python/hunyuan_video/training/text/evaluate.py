"""Tests of what the frozen text encoders know: linear probes per attribute, and captions finding their clips."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from hunyuan_video.data.toyworld import render
from hunyuan_video.data.toyworld.scene import AnyWorld
from hunyuan_video.models.text import ClipTextEncoder, TextEncoder
from hunyuan_video.training.text.captions import attribute_sizes, describe, labels
from hunyuan_video.training.text.contrastive import ClipConfig, Contrast
from hunyuan_video.training.text.heads import probe
from hunyuan_video.training.text.language_model import last_valid


def evaluate(
    world: AnyWorld,
    text: TextEncoder,
    clip: ClipTextEncoder,
    contrast: Contrast,
    config: ClipConfig,
    *,
    count: int = 2000,
) -> dict[str, Any]:
    """Probe accuracies and retrieval on the test split of the world.

    The language model and the probes never saw these combinations of attributes; CLIP saw some of them, because
    `grouped_scenes` exchanges colors without regard to the split.

    Keys: "llm_last" (state of the last token), "llm_mean" (mean over the valid tokens), "clip_pooled": accuracy per
    attribute. "retrieval": share of captions whose best clip among 100 is their own, and of clips likewise.
    "hidden_rms", "pooled_rms": root mean square of the features.
    """
    train, test = (_features(world, text, clip, split, count) for split in ("train", "test"))
    sizes = attribute_sizes(world)
    result: dict[str, Any] = {
        name: probe((train[name], train["labels"]), (test[name], test["labels"]), sizes)
        for name in ("llm_last", "llm_mean", "clip_pooled")
    }
    result["retrieval"] = retrieval(world, clip, contrast, config, count=min(500, count))
    result["hidden_rms"] = round(test["llm_rms"], 3)
    result["pooled_rms"] = round(test["clip_pooled"].square().mean().sqrt().item(), 3)
    return result


@torch.no_grad()
def retrieval(
    world: AnyWorld,
    clip: ClipTextEncoder,
    contrast: Contrast,
    config: ClipConfig,
    *,
    count: int = 500,
    among: int = 100,
) -> dict[str, float]:
    """Share of captions whose best clip among `among` is their own (text_to_video), and of clips (video_to_text)."""
    rng = random.Random(7)
    scenes = world.scenes(count, seed=77, split="test")
    texts = [describe(scene, rng, synonyms=False) for scene in scenes]
    clips = render(scenes, num_frames=config.frames, size=config.size)
    right = torch.zeros(2, dtype=torch.float32, device="cpu")
    for start in range(0, count, among):
        part = slice(start, start + among)
        pooled = clip(texts[part]).pooled.float()
        similarity = contrast.similarity(pooled, contrast.video(clips[part]))
        matching = torch.arange(len(similarity), device="cpu")
        right += torch.stack([(similarity.argmax(dim=d) == matching).sum() for d in (1, 0)])
    shares = (right / count).tolist()
    return {"text_to_video": round(shares[0], 4), "video_to_text": round(shares[1], 4), "among": among}


def _features(world: AnyWorld, text: TextEncoder, clip: ClipTextEncoder, split: str, count: int) -> dict[str, Any]:
    rng = random.Random(3)
    scenes = world.scenes(count, seed=33, split=split)
    texts = [describe(scene, rng, synonyms=False) for scene in scenes]
    last: list[Tensor] = []
    mean: list[Tensor] = []
    pooled: list[Tensor] = []
    square, valid = 0.0, 0.0
    for start in range(0, count, 200):
        encoded = text(texts[start : start + 200])
        hidden, mask = encoded.hidden.float(), encoded.mask
        weight = mask[..., None].float()
        last.append(last_valid(hidden, mask))
        mean.append((hidden * weight).sum(dim=1) / weight.sum(dim=1))
        pooled.append(clip(texts[start : start + 200]).pooled.float())
        square += (hidden.square().mean(dim=2) * mask).sum().item()
        valid += mask.sum().item()
    return {
        "llm_last": torch.cat(last),
        "llm_mean": torch.cat(mean),
        "clip_pooled": torch.cat(pooled),
        "llm_rms": (square / valid) ** 0.5,
        "labels": labels(world, scenes, texts),
    }
