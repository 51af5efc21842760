"""Words back to what they ask for: the inverse of `captions` for every form, a search for known words elsewhere."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache

from hunyuan_video.data.toyworld.wide import phrases
from hunyuan_video.data.toyworld.wide import vocabulary as words
from hunyuan_video.data.toyworld.wide.scene import LABELS, PLACE, THING


@dataclass(frozen=True)
class ThingAsked:
    """A thing as far as words say it; None: not mentioned."""

    count: int | None = None
    size: str | None = None
    fill: str | None = None
    color: str | None = None
    shape: str | None = None
    motion: str | None = None
    speed: str | None = None


@dataclass(frozen=True)
class Asked:
    """Attributes that a text asks for; None: left out. With a relation the first thing stands in it to the second."""

    things: tuple[ThingAsked, ...] = ()
    relation: str | None = None
    background: str | None = None
    background_color: str | None = None
    light: str | None = None
    camera: str | None = None
    more: int = field(default=0, compare=False)  # things that are named beyond the second

    def attributes(self) -> dict[str, str | int | None]:
        """Everything by the names of LABELS."""
        labels: dict[str, str | int | None] = dict.fromkeys(LABELS)
        for prefix, thing in zip(("", "other_"), self.things, strict=False):
            labels.update({f"{prefix}{name}": getattr(thing, name) for name in THING})
        labels.update({name: getattr(self, name) for name in PLACE})
        return labels


def parse(text: str) -> Asked:
    """Attributes of the wide world that `text` asks for."""
    line = simplified(text)
    camera, line = _camera(line)
    light, line = _take(line, _light_phrases())
    (background, color), line = _background(line)
    things, relation, more = _things(line)
    return Asked(things, relation, background, color, light, camera, more)


def simplified(text: str) -> str:
    """The text in lower case and in the words of captions, without marks that say nothing."""
    line = " ".join(_canonical().get(t, t) for t in re.findall(r"[a-z]+|\d+|[^\sa-z\d]", text.lower()))
    line = re.sub(r"[^a-z\d.,;: ]", " ", line)
    return re.sub(r"\s+", " ", line)


@cache
def _canonical() -> dict[str, str]:
    table = {other: word for word, others in phrases.plural_synonyms().items() for other in others}
    return {key: value for key, value in table.items() if key not in _AMBIGUOUS}


# Synonyms of two things: which one is meant, the grammar tells.
_AMBIGUOUS = {"over", "under", "turns", "spinning", "turning"}


def _take(line: str, table: dict[str, str]) -> tuple[str | None, str]:
    """The value whose phrase stands in the line (the longest phrase wins), and the line without that phrase."""
    for phrase in sorted(table, key=len, reverse=True):
        match = re.search(rf"\b{re.escape(phrase)}\b", line)
        if match:
            return table[phrase], f"{line[: match.start()]} , {line[match.end() :]}"
    return None, line


@cache
def _light_phrases() -> dict[str, str]:
    table = {phrase: light for light, adjectives in phrases.LIGHTS.items() for phrase in adjectives}
    return table | {light: light for light in words.LIGHTS} | {"daylight": "day", "evening": "dusk"}


@cache
def _camera_phrases() -> dict[str, str]:
    return {p: camera for camera, (clauses, labels) in phrases.CAMERAS.items() for p in (*clauses, *labels, camera)}


def _camera(line: str) -> tuple[str | None, str]:
    return _take(line, _camera_phrases())


def _background(line: str) -> tuple[tuple[str | None, str | None], str]:
    colors = "|".join(words.BACKGROUND_COLORS)
    for name in ("checkered", "gradient", "plain"):
        for pattern in _ground_patterns(name, colors):
            match = re.search(pattern, line)
            if match:
                return (name, match["color"]), f"{line[: match.start()]} , {line[match.end() :]}"
    for name, pattern in (
        ("starry", r"(under|on|among)? ?(a starry sky|the stars of the sky|starry)"),
        ("landscape", _HILLS),
    ):
        match = re.search(rf"\b{pattern}\b", line)
        if match:
            return (name, None), f"{line[: match.start()]} , {line[match.end() :]}"
    return (None, None), line


_HILLS = r"(over green hills|in a landscape|over the ground under the sky|landscape|green hills|hills)"


def _ground_patterns(name: str, colors: str) -> tuple[str, ...]:
    color, on = rf"(?P<color>{colors})", r"(?:(?:on|over|in) )?(?:an? )?"
    if name == "checkered":
        return (rf"{on}checkered {color} (background|floor)",)
    if name == "gradient":
        return (rf"{on}{color} gradient( background)?",)
    return (rf"{on}(?:plain )?{color} background",)


_RELATION_WORDS = (
    ("left of", r"\b(to the )?left of\b", False),
    ("left of", r"\b(to the )?right of\b", True),
    ("in front of", r"\bin front of\b", False),
    ("in front of", r"\bbehind\b", True),
    ("chasing", r"\bchased by\b", True),
    ("chasing", r"\b(chases?|chasing|follows?|following)\b", False),
    ("orbiting", r"\b(orbits?|orbiting|circles around|circle around|circling around)\b", False),
    ("above", r"\b(above|over)\b", False),
    ("above", r"\b(below|under)\b", True),
)


def _things(line: str) -> tuple[tuple[ThingAsked, ...], str | None, int]:
    line = re.sub(r"\bcircles? around\b", "orbits", line)
    line = re.sub(r"\bin a circle\b", _ROUND, line)
    things: list[ThingAsked] = []
    spans: list[tuple[int, int, int]] = []  # thing, start and end of a noun phrase that means it
    for match in _NOUN.finditer(line):
        thing = _noun(match)
        number = _same(things, thing, bool(match["the"]))
        if number is None:
            things.append(thing)
            number = len(things) - 1
        spans.append((number, match.start(), match.end()))
    relation, swapped = None, False
    if len(spans) > 1:
        start, stop = spans[0][2], spans[1][1]
        for name, pattern, turned in _RELATION_WORDS:
            joint = re.search(pattern, line[start:stop])
            if joint:
                relation, swapped = name, turned
                blank = " " * (joint.end() - joint.start())
                line = line[: start + joint.start()] + blank + line[start + joint.end() :]
                break
    moving = _motions(line, things[:2], [(number, end) for number, _, end in spans], relation)
    return tuple(moving[::-1] if swapped else moving), relation, max(len(things) - 2, 0)


_ROUND = "along an orbit"  # for "in a circle", which is no shape
_NUMBER_WORDS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3}
_NOUN = re.compile(
    rf"(?:(?P<the>\bthe )|(?P<count>\b(?:{'|'.join(_NUMBER_WORDS)}) )?)"
    rf"(?P<adjectives>(?:\b(?:{'|'.join((*words.SIZES, *words.FILLS, *words.COLORS))}) )*)"
    rf"\b(?P<shape>{'|'.join(sorted((*phrases.PLURALS.values(), *words.SHAPES), key=len, reverse=True))})\b"
)


def _noun(match: re.Match) -> ThingAsked:
    adjectives = match["adjectives"].split()
    singular = {plural: shape for shape, plural in phrases.PLURALS.items()}
    shape = singular.get(match["shape"], match["shape"])
    count = _NUMBER_WORDS.get((match["count"] or "").strip())

    def first(names: Iterable[str]) -> str | None:
        return next((word for word in adjectives if word in names), None)

    return ThingAsked(count, first(words.SIZES), first(words.FILLS), first(words.COLORS), shape)


def _same(things: list[ThingAsked], thing: ThingAsked, definite: bool) -> int | None:
    """The thing that was named before, if these words mean it again."""
    if not definite:
        return None
    for number, before in enumerate(things):
        if before.shape == thing.shape and thing.color in (None, before.color):
            return number
    return None


@cache
def _motion_phrases() -> dict[str, str]:
    table = {
        form.replace("in a circle", _ROUND): motion
        for motion, pairs in phrases.MOTIONS.items()
        for pair in pairs
        for form in pair
    }
    for side in words.DIRECTIONS:
        table[side.replace("-", " and ")] = side
    for side in ("left", "right"):
        table[f"to the {side}"] = side
    extra = {
        "turns": "rotate",
        "turn": "rotate",
        "nothing moves": "rest",
        "both stay still": "rest",
        "both rest": "rest",
    }
    return table | extra


def _motions(
    line: str, things: list[ThingAsked], spans: list[tuple[int, int]], relation: str | None
) -> list[ThingAsked]:
    """The things with their motions: each of the last thing named before it, or of all where all move."""
    out = list(things)
    if not out:
        return out
    ends = [*(end for _, end in spans[1:]), len(line)]
    stated = False
    for (number, start), stop in zip(spans, ends, strict=True):
        if number >= len(out):
            continue
        part = line[start:stop]
        motion, rest = _take(part, _motion_phrases())
        speed = "slow" if re.search(r"\bslowly\b", part) else "fast" if re.search(r"\bquickly\b", part) else None
        everyone = relation == "chasing" or re.search(r"\b(both|they|nothing)\b", part)
        if motion is None and not (speed and relation in ("chasing", "orbiting")):
            continue
        stated = True
        for other in range(len(out)) if everyone else (number,):
            out[other] = replace(out[other], motion=motion or out[other].motion, speed=speed)
    if relation == "orbiting" and out:
        speeds = [thing.speed for thing in out if thing.speed]
        out = [replace(out[0], motion="orbit", speed=speeds[0] if speeds else None), *(
            replace(thing, motion="rest", speed=None) for thing in out[1:])]  # fmt: skip
        stated = True
    return out if stated else out
