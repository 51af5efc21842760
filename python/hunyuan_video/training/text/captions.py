"""An endless, reproducible series of captions with the attributes they mention."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hunyuan_video.data.toyworld.captions import caption
from hunyuan_video.data.toyworld.phrases import SYNONYMS
from hunyuan_video.data.toyworld.scene import AnyScene, AnyWorld, Scene
from hunyuan_video.data.toyworld.wide.parsing import parse
from hunyuan_video.data.toyworld.wide.phrases import plural_synonyms
from hunyuan_video.data.toyworld.wide.scene import WideScene

NOT_MENTIONED = -100  # torch's "ignore" label
SYNONYM_SHARE = 0.12


def describe(scene: AnyScene, rng: random.Random, *, synonyms: bool = True) -> str:
    """A caption of the scene; now and then a word is replaced by a synonym and the full stop left out."""
    text = caption(scene, rng).text
    if not synonyms:
        return text
    table = plural_synonyms() if isinstance(scene, WideScene) else SYNONYMS
    text = re.sub(r"[a-z]+", lambda word: _maybe_synonym(word[0], rng, table), text)
    return text.rstrip(".") if rng.random() < 0.3 else text


def labels(
    world: AnyWorld,
    scenes: Sequence[AnyScene],
    texts: Sequence[str] | None = None,  # None: as if everything were said
) -> dict[str, Tensor]:  # each [B] int64
    """Per attribute the index of its value, or NOT_MENTIONED where the scene has none or the caption leaves it out."""
    rows = [scene.attributes() for scene in scenes]
    if texts is not None:
        rows = [_mentioned_attributes(scene, text) for scene, text in zip(scenes, texts, strict=True)]
    return {
        name: torch.tensor([NOT_MENTIONED if row[name] is None else values.index(row[name]) for row in rows])
        for name, values in world.words().items()
    }


def _mentioned_attributes(scene: AnyScene, text: str) -> dict:
    """The scene's attributes; None for those that the text leaves out."""
    if isinstance(scene, WideScene):
        mentioned = parse(text).attributes()
        return {name: None if mentioned[name] is None else value for name, value in scene.attributes().items()}
    return {name: value if _says(text, scene, name) else None for name, value in scene.attributes().items()}


def attribute_sizes(world: AnyWorld) -> dict[str, int]:
    """Number of values of each attribute."""
    return {name: len(values) for name, values in world.words().items()}


def _says(text: str, scene: Scene, name: str) -> bool:
    if name == "size":
        size = str(scene.size)
        return any(word in text for word in (size, *SYNONYMS.get(size, ())))
    if name in ("texture", "background", "camera"):  # the brief form tells none of the three
        return any(word in text for word in ("background", *SYNONYMS["background"]))
    return True


def _maybe_synonym(word: str, rng: random.Random, table: Mapping[str, tuple[str, ...]]) -> str:
    if word in table and rng.random() < SYNONYM_SHARE:
        return rng.choice(table[word])
    return word
