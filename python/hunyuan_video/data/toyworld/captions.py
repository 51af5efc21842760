"""Scenes to words: sentences of many forms, and structured captions with the fields of the HunyuanVideo paper (3.2).

Everything is lower case and made of few words: `vocabulary(world)` lists all of them, `tokens(text)` splits a caption.
"""

import json
import random
import re
from dataclasses import dataclass

from hunyuan_video.data.toyworld import phrases
from hunyuan_video.data.toyworld.scene import AnyScene, Scene, World
from hunyuan_video.data.toyworld.wide import captions as wide
from hunyuan_video.data.toyworld.wide.scene import WideScene, WideWorld

# How often each form is drawn: the sentences share the rest.
STRUCTURED_SHARE = 0.12
BRIEF_SHARE = 0.03

FORMS = (*phrases.FORMS, "structured", "brief")
_SURE_FIELDS = ("short description", "background", "camera movement")
_WORD = re.compile(r"[a-z]+|[^\sa-z]")


@dataclass(frozen=True)
class Caption:
    """text: what a text encoder reads. fields: the paper's structured caption of the same clip, complete."""

    text: str
    fields: dict[str, str]


def caption(scene: AnyScene, rng: random.Random, form: str | None = None) -> Caption:
    """Describes a scene.

    rng: chooses among phrases (and forms): equal states give equal captions. form: one of FORMS, or None to draw one.
    Every form but "brief" tells shape, color, motion, background and camera; the size is left out now and then. A
    "structured" caption drops and shuffles fields, as the paper does to vary length and pattern, but keeps those that
    tell all attributes. ValueError for an unknown form. The wide world has forms of its own (`wide.captions.FORMS`).
    """
    if isinstance(scene, WideScene):
        return Caption(*wide.describe(scene, rng, form))
    if form is None:
        form = _draw_form(rng)
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; use one of {', '.join(FORMS)}")
    fields = structured_fields(scene, rng)
    if form == "structured":
        return Caption(_structured_text(fields, rng), fields)
    template = phrases.BRIEF_FORM if form == "brief" else phrases.FORMS[form]
    return Caption(_fill(template, _parts(scene, rng)), fields)


def structured_fields(scene: Scene, rng: random.Random) -> dict[str, str]:
    """All fields of the structured caption, by the names of phrases.FIELD_NAMES."""
    parts = _parts(scene, rng)
    values = (
        _fill(phrases.BRIEF_FORM, parts),
        _fill(phrases.FORMS["sentence"], parts),
        parts["background"],
        phrases.STYLE,
        phrases.SHOT_TYPES[scene.size],
        phrases.LIGHTING[scene.texture],
        phrases.ATMOSPHERES.get(scene.motion, phrases.OTHER_ATMOSPHERE),
        scene.camera,
    )
    return dict(zip(phrases.FIELD_NAMES, values, strict=True))


def tokens(text: str) -> list[str]:
    """The words and punctuation marks of a caption, lower case: a word-level tokenizer's view of it."""
    return _WORD.findall(text.lower())


def vocabulary(world: World | WideWorld) -> list[str]:
    """Every token that captions of this world can contain, sorted."""
    if isinstance(world, WideWorld):
        return wide.all_words()
    values = world.words()
    texts = [re.sub(r"{\w+}", " ", form) for form in (*phrases.FORMS.values(), phrases.BRIEF_FORM)]
    texts += [json.dumps(dict.fromkeys(phrases.FIELD_NAMES, phrases.STYLE)), "the camera background an"]
    for name in ("shape", "color", "size", "texture", "background"):
        texts += values[name]
    for table, attribute in (
        (phrases.MOTION_PHRASES, "motion"),
        (phrases.CAMERA_CLAUSES, "camera"),
        (phrases.CAMERA_LABELS, "camera"),
    ):
        texts += [phrase for value in values[attribute] for phrase in table[value]]
    texts += [phrases.SHOT_TYPES[size] for size in values["size"]]
    texts += [phrases.LIGHTING[texture] for texture in values["texture"]]
    texts += [phrases.ATMOSPHERES.get(motion, phrases.OTHER_ATMOSPHERE) for motion in values["motion"]]
    return sorted({token for text in texts for token in tokens(text)})


def _draw_form(rng: random.Random) -> str:
    draw = rng.random()
    if draw < STRUCTURED_SHARE:
        return "structured"
    if draw < STRUCTURED_SHARE + BRIEF_SHARE:
        return "brief"
    return rng.choice(tuple(phrases.FORMS))


def _parts(scene: Scene, rng: random.Random) -> dict[str, str]:
    # The middle size is the usual one and often goes without saying.
    says_size = rng.random() < (0.4 if scene.size == "medium" else 0.85)
    thing = f"{scene.size} {scene.color} {scene.shape}" if says_size else f"{scene.color} {scene.shape}"
    says_texture = scene.texture != "plain" or rng.random() < 0.4
    ground = f"{scene.texture} {scene.background}" if says_texture else scene.background
    return {
        "shape": scene.shape,
        "object": thing,
        "does": rng.choice(phrases.MOTION_PHRASES[scene.motion]),
        "background": f"{ground} background",
        "camera": f"the camera {rng.choice(phrases.CAMERA_CLAUSES[scene.camera])}",
        "label": rng.choice(phrases.CAMERA_LABELS[scene.camera]),
    }


def _fill(template: str, parts: dict[str, str]) -> str:
    return re.sub(r"\ba (?=[aeiou])", "an ", template.format(**parts))


def _structured_text(fields: dict[str, str], rng: random.Random) -> str:
    # Either the dense description, or the three fields that together say the same; at most two of the others.
    sure = ("dense description",) if rng.random() < 0.5 else _SURE_FIELDS
    others = [name for name in ("style", "shot type", "lighting", "atmosphere") if rng.random() < 0.3]
    chosen = [*sure, *others[:2]]
    rng.shuffle(chosen)
    return json.dumps({name: fields[name] for name in chosen})
