"""Words back to attributes: what a prompt asks for, so that a clip made from it can be judged."""

import re
from collections.abc import Iterable

from hunyuan_video.data.toyworld import phrases
from hunyuan_video.data.toyworld import vocabulary as words
from hunyuan_video.data.toyworld.scene import Attributes, World

SYNONYMS = {
    "grey": "gray",
    "disc": "circle",
    "disk": "circle",
    "ball": "circle",
    "cross": "plus",
    "big": "large",
    "violet": "purple",
    "leftwards": "left",
    "rightwards": "right",
    "upwards": "up",
    "downwards": "down",
    "upper": "up",
    "lower": "down",
    "checked": "checkered",
    "stripes": "striped",
}
# Roots of words, for prompts that use none of our phrases.
_CAMERA_ROOTS = {"pan": "pan", "tilt": "tilt", "zoom": "zoom", "around": "around", "circl": "around", "orbit": "around"}
_MOTION_ROOTS = {"grow": "grow", "shrink": "shrink", "rotat": "rotate", "spin": "rotate", "bounc": "bounce"}
_STILL = re.compile(r"\b(static|still|motionless|not mov\w*|not move)\b")


def parse(text: str, world: World) -> Attributes:
    """Attributes of this world that `text` asks for. Those that it does not mention, or that the world lacks, are None.

    The inverse of `caption` for every form; for other texts a search for the same words and a few synonyms. A
    background of which no texture is said is plain.
    """
    text = " ".join(SYNONYMS.get(token, token) for token in re.findall(r"[a-z]+|[^\sa-z]", text.lower()))
    camera, rest = _camera(text)
    motion, rest = _motion(rest)
    background = _first(rest, words.BACKGROUND_COLORS)
    texture = _first(rest, words.TEXTURES) or ("plain" if background else None)
    shape = _first(rest, words.SHAPES)
    named = (shape, _color(rest, shape), _first(rest, words.SIZES), motion, texture, background, camera)
    known = world.words().values()
    return Attributes(*(word if word in words_known else None for word, words_known in zip(named, known, strict=True)))


def _first(text: str, candidates: Iterable[str]) -> str | None:
    """The candidate that stands first in the text as a whole word."""
    places = [(match.start(), word) for word in candidates if (match := re.search(rf"\b{word}s?\b", text))]
    return min(places)[1] if places else None


def _color(text: str, shape: str | None) -> str | None:
    """The object's color: the one right before the shape, or the first one."""
    names = "|".join(words.OBJECT_COLORS)
    before = re.search(rf"\b({names}) {shape}", text) if shape else None
    return before[1] if before else _first(text, words.OBJECT_COLORS)


def _cut(text: str, table: dict[str, str]) -> tuple[str | None, str]:
    """The value whose phrase stands in the text (the longest phrase wins), and the text without that phrase."""
    for phrase in sorted(table, key=len, reverse=True):
        match = re.search(rf"\b{phrase}\b", text)
        if match:
            return table[phrase], f"{text[: match.start()]} . {text[match.end() :]}"
    return None, text


_CAMERA_PHRASES = {
    phrase: camera
    for camera in words.CAMERAS
    for phrase in (
        *(f"the camera {clause}" for clause in phrases.CAMERA_CLAUSES[camera]),
        *phrases.CAMERA_LABELS[camera],
    )
}
_MOTION_PHRASES = {phrase: motion for motion, wordings in phrases.MOTION_PHRASES.items() for phrase in wordings}


def _camera(text: str) -> tuple[str | None, str]:
    camera, rest = _cut(text, _CAMERA_PHRASES)
    if camera:
        return camera, rest
    for clause in re.split(r"[.,;:]| while | and (?=the camera)", text):
        if "camera" in clause or "shot" in clause or re.search(r"\b(pan|tilt|zoom)", clause):
            camera, words_of_it = _guess_camera(clause)
            return camera, (text.replace(words_of_it, " ", 1) if words_of_it else text)
    return None, text


def _guess_camera(clause: str) -> tuple[str | None, str]:
    """The camera that a clause of free words describes, and the words that do so."""
    if re.search(r"\b(handheld|shak)", clause):
        return "handheld shot", clause
    for root, kind in _CAMERA_ROOTS.items():
        side = re.search(rf"\b{root}\w*.*?\b(left|right|up|down|in|out)\b", clause)
        if side and f"{kind} {side[1]}" in words.CAMERAS:
            return f"{kind} {side[1]}", side[0]
    return ("static shot", clause) if _STILL.search(clause) else (None, "")


def _motion(text: str) -> tuple[str | None, str]:
    motion, rest = _cut(text, _MOTION_PHRASES)
    if motion:
        return motion, rest
    for root, name in _MOTION_ROOTS.items():
        if re.search(rf"\b{root}", text):
            return name, text
    side = re.search(r"\b(up|down)\W+(?:(?:and|to|the)\W+)*(left|right)\b", text)
    if side:
        return f"{side[1]}-{side[2]}", text
    side = re.search(r"\b(left|right|up|down)\b", text)
    if side:
        return side[1], text
    return ("static" if _STILL.search(text) else None), text
