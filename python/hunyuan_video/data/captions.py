"""Captions as the model gets them: structured captions with fields dropped and permuted (paper section 3.2)."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from hunyuan_video.data.toyworld import caption
from hunyuan_video.data.toyworld.phrases import FORMS
from hunyuan_video.data.toyworld.scene import AnyScene
from hunyuan_video.data.toyworld.wide import captions as wide
from hunyuan_video.data.toyworld.wide.scene import WideScene
from hunyuan_video.rules import SHARE

WIDE_FORMS = tuple(form for form in wide.FORMS if form != "structured")


def compose(fields: dict[str, str], rng: random.Random, dropout: float) -> str:
    """Some of the fields in a random order, as JSON: each left out with probability `dropout`, never all of them."""
    kept = [name for name in fields if rng.random() >= dropout] or [rng.choice(list(fields))]
    rng.shuffle(kept)
    return json.dumps({name: fields[name] for name in kept})


@dataclass(frozen=True)
class Captioner:
    """Draws captions: nothing (for classifier-free guidance), structured, or a sentence in one of many forms."""

    text_dropout: float = 0.1
    structured: float = 0.3
    field_dropout: float = 0.5

    def __post_init__(self) -> None:
        for name in ("text_dropout", "structured", "field_dropout"):
            SHARE.check(name, getattr(self, name))

    def __call__(self, scene: AnyScene, rng: random.Random) -> str:
        if rng.random() < self.text_dropout:
            return ""
        if rng.random() < self.structured:
            return compose(caption(scene, rng=rng, form="structured").fields, rng, self.field_dropout)
        forms = WIDE_FORMS if isinstance(scene, WideScene) else (*FORMS, "brief")
        return caption(scene, rng=rng, form=rng.choice(forms)).text
