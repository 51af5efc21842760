"""Wide scenes to words: as people write, and structured with the fields of the HunyuanVideo paper (section 3.2)."""

import json
import random
import re

from hunyuan_video.data.toyworld.phrases import FIELD_NAMES
from hunyuan_video.data.toyworld.wide import phrases
from hunyuan_video.data.toyworld.wide import vocabulary as words
from hunyuan_video.data.toyworld.wide.scene import Thing, WideScene

STRUCTURED_SHARE = 0.12
BRIEF_SHARE = 0.15
FORMS = (*(str(number) for number in range(len(phrases.FORMS))), "tags", "brief", "structured")
COMPLETE_FORMS = FORMS[:-2]  # sentences that leave nothing out but the usual
_SURE_FIELDS = ("short description", "background", "lighting", "camera movement")


def describe(scene: WideScene, rng: random.Random, form: str | None = None) -> tuple[str, dict[str, str]]:
    """A text and all fields of the structured caption. form: one of FORMS, or None to draw one.

    Every form but "brief" tells everything that is not the usual: what is not said is one object, a medium size, a
    plain fill, a normal speed, day, and a static shot. "brief" leaves the place or the camera out.
    """
    form = form or _draw_form(rng)
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; use one of {', '.join(FORMS)}")
    fields = _fields(scene, rng)
    if form == "structured":
        return _structured(fields, rng, sure=() if scene.style == "flat" else ("style",)), fields
    what, place = _what(scene, rng), _place(scene, rng)
    light = _light(scene, rng)
    clauses, labels = phrases.CAMERAS[scene.camera]
    camera, label = rng.choice(clauses), rng.choice(labels)
    if scene.camera == "static shot" and rng.random() < 0.5:
        camera = label = ""
    if form == "tags":
        text = ", ".join(part for part in (what, place, light, label) if part)
    elif form == "brief":
        text = f"{what} {place if rng.random() < 0.5 else ''} {light}"
    else:
        text = phrases.FORMS[int(form)].format(what=what, place=place, light=light, camera=camera, label=label)
    text = tidy(text)
    return text if scene.style == "flat" else f"{phrases.STYLES[scene.style]}. {text}", fields


def tidy(text: str) -> str:
    """The text without what empty parts leave behind, and "an" before a vowel."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"^while ", "", text)
    text = re.sub(r"\s+([,.;:])", r"\1", text)
    text = re.sub(r"([,.;:])(?:\s*[,.;:])+", r"\1", text)
    text = re.sub(r"^[,.;: ]+|[,;: ]+$", "", text)
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def noun_phrase(thing: Thing, rng: random.Random, definite: bool = False) -> str:
    """ "two small striped red stars"; definite: "the red stars"."""
    noun = phrases.PLURALS[thing.shape] if thing.count > 1 else thing.shape
    if definite:
        return f"the {thing.color} {noun}"
    # The middle size is the usual one and mostly goes without saying.
    size = thing.size if thing.size != "medium" or rng.random() < 0.25 else ""
    fill = thing.fill if thing.fill != "plain" else ""
    number = rng.choices(phrases.NUMBERS[thing.count], (6, 1)[: len(phrases.NUMBERS[thing.count])])[0]
    return " ".join(word for word in (number, size, fill, thing.color, noun) if word)


def _draw_form(rng: random.Random) -> str:
    draw = rng.random()
    if draw < STRUCTURED_SHARE:
        return "structured"
    if draw < STRUCTURED_SHARE + BRIEF_SHARE:
        return "brief"
    return rng.choice(COMPLETE_FORMS)


def _what(scene: WideScene, rng: random.Random) -> str:
    first = scene.things[0]
    if scene.relation is None:
        return f"{noun_phrase(first, rng)} {_does(first, rng)}"
    second = scene.things[1]
    verbs = {name: forms[first.count > 1] for name, forms in phrases.VERBS.items()}
    names = {"first": noun_phrase(first, rng), "second": noun_phrase(second, rng), "is_second": "is"}
    relation_text = rng.choice(phrases.RELATIONS[scene.relation]).format(**names, **verbs)
    return f"{relation_text}{_pair_motion(scene, rng)}"


def _pair_motion(scene: WideScene, rng: random.Random) -> str:
    first, second = scene.things
    adverb = phrases.ADVERBS[first.speed]
    if scene.relation == "orbiting":
        return f" {adverb}" if adverb else ""
    if scene.relation == "chasing":
        way = first.motion.replace("-", " and ")
        to = f" to the {way}" if way in ("left", "right") else f" {way}"
        return f"{to} {adverb}".rstrip()
    if first.motion == second.motion and first.speed == second.speed and first.motion != "rotate":
        if first.motion == "rest":
            return f", {rng.choice(phrases.NOTHING_MOVES)}" if rng.random() < 0.5 else ""
        does = f"{rng.choice(phrases.MOTIONS[first.motion])[1]} {adverb}".rstrip()
        return f", {rng.choice(phrases.TOGETHER).format(does=does)}"
    sentences = [f"{noun_phrase(thing, rng, definite=True)} {_does(thing, rng)}" for thing in scene.things]
    return f", {sentences[0]} and {sentences[1]}"


def _does(thing: Thing, rng: random.Random) -> str:
    verb = rng.choice(phrases.MOTIONS[thing.motion])[thing.count > 1]
    return f"{verb} {phrases.ADVERBS[thing.speed]}".rstrip()


def _place(scene: WideScene, rng: random.Random) -> str:
    return rng.choice(phrases.PLACES[scene.background]).format(color=scene.background_color)


def _light(scene: WideScene, rng: random.Random) -> str:
    return "" if scene.light == "day" and rng.random() < 0.6 else rng.choice(phrases.LIGHTS[scene.light])


def _fields(scene: WideScene, rng: random.Random) -> dict[str, str]:
    """All fields of the structured caption, by the names of FIELD_NAMES."""
    what, place, light = _what(scene, rng), _place(scene, rng), rng.choice(phrases.LIGHTS[scene.light])
    camera = phrases.CAMERAS[scene.camera][0][0]
    key = scene.relation if scene.relation in ("chasing", "orbiting") else scene.things[0].motion
    values = (
        what,
        f"{what} {place} {light}, {camera}",
        place.split(" ", 1)[1] if scene.background in ("plain", "gradient", "checkered") else place,
        phrases.STYLES[scene.style],
        phrases.SHOT_TYPES[scene.things[0].size],
        light,
        phrases.ATMOSPHERES.get(str(key), phrases.OTHER_ATMOSPHERE),
        scene.camera,
    )
    return {name: tidy(value) for name, value in zip(FIELD_NAMES, values, strict=True)}


def _structured(fields: dict[str, str], rng: random.Random, sure: tuple[str, ...] = ()) -> str:
    # Either the dense description, or the four fields that together say the same; at most two of the others.
    first = ("dense description",) if rng.random() < 0.5 else _SURE_FIELDS
    others = [name for name in ("style", "shot type", "atmosphere") if rng.random() < 0.3]
    chosen = list(dict.fromkeys([*first, *others[:2], *sure]))
    rng.shuffle(chosen)
    return json.dumps({name: fields[name] for name in chosen})


def all_words() -> list[str]:
    """Every word and mark that captions can contain, without synonyms, sorted."""
    texts: list[str] = [*words.SHAPES, *phrases.PLURALS.values(), *words.COLORS, *words.SIZES, *words.FILLS]
    texts += [word for forms in phrases.NUMBERS.values() for word in forms] + ["an the and is are"]
    texts += [form for pairs in phrases.MOTIONS.values() for pair in pairs for form in pair]
    texts += [*phrases.ADVERBS.values(), *(f for fs in phrases.RELATIONS.values() for f in fs)]
    texts += [*(v for pair in phrases.VERBS.values() for v in pair), *phrases.NOTHING_MOVES, *phrases.TOGETHER]
    texts += [p for places in phrases.PLACES.values() for p in places] + list(words.BACKGROUND_COLORS)
    texts += [p for lights in phrases.LIGHTS.values() for p in lights] + list(words.LIGHTS)
    texts += [p for pair in phrases.CAMERAS.values() for group in pair for p in group] + list(phrases.CAMERAS)
    texts += [*phrases.FORMS, *phrases.SHOT_TYPES.values(), phrases.STYLE, phrases.OTHER_ATMOSPHERE]
    texts += [*phrases.ATMOSPHERES.values(), json.dumps(dict.fromkeys(FIELD_NAMES, ""))]
    tokens = {token for text in texts for token in re.findall(r"[a-z]+|[^\sa-z]", re.sub(r"{\w+}", " ", text))}
    return sorted(tokens)
