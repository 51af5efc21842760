"""Known words that a world never shows together: a prompt of them asks for what no clip of it has."""

import re

from hunyuan_video.data.toyworld import phrases as narrow_phrases
from hunyuan_video.data.toyworld import vocabulary as narrow
from hunyuan_video.data.toyworld.scene import World
from hunyuan_video.data.toyworld.wide import vocabulary as wide
from hunyuan_video.data.toyworld.wide.parsing import Asked, ThingAsked, parse, simplified
from hunyuan_video.data.toyworld.wide.phrases import PLURALS
from hunyuan_video.data.toyworld.wide.scene import WideWorld, fits

_NOT = re.compile(r"\b(no|not|without|never|except|nobody)\b")
_RESTS = re.compile(r"\b(does|do|is|are) not (move|moving)\b")  # the one "not" that captions have


def clashes(prompt: str, world: World | WideWorld) -> list[str]:
    """Lines that say which known words do not go together in the world, the gravest first."""
    asked = parse(prompt) if isinstance(world, WideWorld) else None
    text = simplified(prompt) if asked else _simplified(prompt)
    lines = _too_many(text, world, asked)
    lines += _colors(text, world)
    if asked:
        lines += [line for thing in asked.things for line in _thing(thing, len(asked.things))]
        if asked.background == "starry" and asked.light == "day":
            lines.append(f"a starry sky is seen at {_or(wide.LIGHTS_OF['starry'])}, not by day")
        if asked.camera not in (None, "static shot") and asked.background in wide.UNTEXTURED:
            textured = [name for name in wide.BACKGROUNDS if name not in wide.UNTEXTURED]
            lines.append(f"{asked.background} backgrounds show no camera motion; {_or(textured)} do")
    if _NOT.search(_RESTS.sub("", text)) or "n't" in prompt.lower():
        lines.append("what is not to be seen cannot be said: words after no, not or without may be shown")
    return lines


def _simplified(prompt: str) -> str:
    """A prompt of the narrow world in the words of its captions."""
    table = {other: word for word, others in narrow_phrases.SYNONYMS.items() for other in others}
    return " ".join(table.get(token, token) for token in re.findall(r"[a-z]+|[^\sa-z]", prompt.lower()))


def _too_many(text: str, world: World | WideWorld, asked: Asked | None) -> list[str]:
    if asked is None:
        colors, shapes = ("|".join(map(str, world.words()[name])) for name in ("color", "shape"))
        things = {(m[1], m[2]) for m in re.finditer(rf"\b(?:({colors}) )?({shapes})\b", text)}
        shown = {(color, shape) for color, shape in things if color or not any(s == shape and c for c, s in things)}
        return [f"{len(shown)} things are named; this world shows one at a time"] if len(shown) > 1 else []
    if asked.more:
        return [f"{2 + asked.more} things are named; this world shows one, or two in a relation"]
    if len(asked.things) == 2 and asked.relation is None:
        return [f"how the two things stand to each other is not said; this world has {_or(wide.RELATIONS)}"]
    return []


def _colors(text: str, world: World | WideWorld) -> list[str]:
    """Colors of things said of a background, and the other way round."""
    is_wide = isinstance(world, WideWorld)
    things = wide.COLORS if is_wide else narrow.OBJECT_COLORS
    grounds = [str(color) for color in world.words()["background_color" if is_wide else "background"]]
    colors = [str(color) for color in world.words()["color"]]
    shapes = [str(shape) for shape in world.words()["shape"]]
    names = "|".join([*shapes, *PLURALS.values()])
    lines = []
    for color in dict.fromkeys([*things, *grounds]):
        if color not in things and re.search(rf"\b{color} (?:{names})\b", text):
            lines.append(f"{color}: a color of backgrounds here; things are {_or(colors)}")
        if color not in grounds and re.search(rf"\b{color} (?:background|gradient|floor|sky)\b", text):
            lines.append(f"{color}: a color of things here; backgrounds are {_or(grounds)}")
    return lines


def _thing(thing: ThingAsked, things: int) -> list[str]:
    """Lines for words of one thing that are never drawn together."""
    lines, order = [], tuple(wide.SIZES)
    shape, fill, size = thing.shape, thing.fill, thing.size or "medium"
    if shape and fill not in (None, "plain"):
        sizes = wide.FILL_SIZES[str(fill)]
        if shape not in sizes:
            lines.append(f"a {fill} {shape} is not in this world; {fill} are {_or(list(sizes))}")
        elif not fits(shape, size, sizes, order):
            lines.append(f"a {size} {shape} is too small to be {fill}; from {sizes[shape]} on it can be")
    count = thing.count or 1
    if thing.size and things == 1 and count > 1 and order.index(thing.size) > 3 - count:
        lines.append(f"{count} {thing.size} things do not fit into the picture; {count} {order[3 - count]} ones do")
    if thing.motion == "rotate" and (shape == "ring" or (shape == "circle" and fill in (None, "plain", "outlined"))):
        lines.append(
            f"a {shape} that turns looks like one at rest" + ("" if shape == "ring" else "; a striped one does not")
        )
    if count > 1 and thing.motion in ("grow", "shrink"):
        lines.append("several things that grow or shrink are not in this world; one is")
    return lines


def _or(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + (f" or {names[-1]}" if len(names) > 1 else names[-1])
