"""An endless, reproducible series of captions with the attributes they mention."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from hunyuan_video.data.toyworld.captions import caption
from hunyuan_video.data.toyworld.scene import ATTRIBUTES, Scene, World
from hunyuan_video.training.text.words import SYNONYMS

NOT_SAID = -100  # torch's "ignore" label
SYNONYM_SHARE = 0.12


def describe(scene: Scene, rng: random.Random, *, synonyms: bool = True) -> str:
    """A caption of the scene; now and then a word is replaced by a synonym and the full stop left out."""
    text = caption(scene, rng).text
    if not synonyms:
        return text
    text = re.sub(r"[a-z]+", lambda word: _maybe_synonym(word[0], rng), text)
    return text.rstrip(".") if rng.random() < 0.3 else text


def labels(world: World, scenes: Sequence[Scene], texts: Sequence[str]) -> dict[str, Tensor]:  # each [B] int64
    """Per attribute the index of its value, or NOT_SAID where the caption leaves it out."""
    values = world.words()
    result = {}
    for name in ATTRIBUTES:
        known = [
            values[name].index(getattr(scene, name)) if _says(text, scene, name) else NOT_SAID
            for scene, text in zip(scenes, texts, strict=True)
        ]
        result[name] = torch.tensor(known)
    return result


def attribute_sizes(world: World) -> dict[str, int]:
    """How many values each attribute has."""
    return {name: len(values) for name, values in world.words().items()}


def _says(text: str, scene: Scene, name: str) -> bool:
    if name == "size":
        size = str(scene.size)
        return any(word in text for word in (size, *SYNONYMS.get(size, ())))
    if name in ("texture", "background", "camera"):  # the brief form tells none of the three
        return any(word in text for word in ("background", *SYNONYMS["background"]))
    return True


def _maybe_synonym(word: str, rng: random.Random) -> str:
    if word in SYNONYMS and rng.random() < SYNONYM_SHARE:
        return rng.choice(SYNONYMS[word])
    return word
