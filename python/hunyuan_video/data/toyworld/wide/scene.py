"""Scene of a clip of the wide world: things with words, a relation between them, and where it takes place."""

import math
import random
import zlib
from dataclasses import dataclass, replace

from hunyuan_video.data.toyworld.wide import vocabulary as words

THING = ("count", "size", "fill", "color", "shape", "motion", "speed")  # attributes of a thing
PLACE = ("relation", "background", "background_color", "light", "camera")
LABELS = (*THING, *(f"other_{name}" for name in THING), *PLACE)
TEST_SHARE = 10  # one combination of words in so many belongs to the split "test"
_MOTION_WEIGHTS = {"rest": 2.0, "bounce": 1.5, "rotate": 1.5, "grow": 1.0, "shrink": 1.0, "orbit": 1.5}  # others 0.75
_BACKGROUND_WEIGHTS = (1.6, 0.8, 1.0, 0.8, 1.4)


@dataclass(frozen=True)
class Thing:
    """`count` equal objects: "two small striped red stars that rotate slowly"."""

    shape: str
    color: str
    size: str
    fill: str
    motion: str
    speed: str  # "normal" where there is no motion
    count: int = 1


@dataclass(frozen=True)
class WideScene:
    """One clip, completely: rendering it twice gives the same pixels.

    With a relation the first thing stands in it to the second ("left of": the first is on the left).
    """

    things: tuple[Thing, ...]  # one, or two with a relation
    relation: str | None
    background: str
    background_color: str | None  # of plain, gradient and checkered
    light: str
    camera: str

    radii: tuple[float, ...]  # of each thing, half-way through the clip
    offset: tuple[float, float]  # of everything from the middle of the picture
    spare: tuple[float, float, float]  # in [0, 1]: how wide gaps are, how far aside things stand, where an orbit starts
    tints: tuple[tuple[float, float, float], ...]  # added to the color of each thing
    phases: tuple[float, float, float, float]  # radians: where the background and the camera's shake start
    style: str = "flat"  # or "lines": drawn in lines on paper (strokes.py)

    def words(self) -> tuple[str, ...]:
        """Everything that words say of it, in a fixed order."""
        descriptions = [f"{t.count} {t.size} {t.fill} {t.color} {t.shape} {t.motion} {t.speed}" for t in self.things]
        place = (self.relation or "", self.background, self.background_color or "", self.light, self.camera)
        return (*descriptions, *place)

    def attributes(self) -> dict[str, str | int | None]:
        """Every word of it by the names of LABELS; None where there is no such thing."""
        labels: dict[str, str | int | None] = dict.fromkeys(LABELS)
        for prefix, thing in zip(("", "other_"), self.things, strict=False):
            labels.update({f"{prefix}{name}": getattr(thing, name) for name in THING})
        labels.update({name: getattr(self, name) for name in PLACE})
        return labels


@dataclass(frozen=True)
class WideWorld:
    """Draws scenes. pairs: share of clips with two things; static_share: of static shots among those on a texture;
    style: how they are drawn.
    """

    name: str = "wide"
    pairs: float = 0.45
    static_share: float = 0.30
    style: str = "flat"

    def scene(self, index: int, seed: int = 0, split: str | None = None) -> WideScene:
        """The scene number `index` of the endless series `seed`: the same on every machine and in every order.

        split: None draws from everything; "train" and "test" draw from two sets that share no combination of words
        (one combination in ten is kept for "test").
        """
        if split not in (None, "train", "test"):
            raise ValueError(f"split is {split!r}; use None, 'train' or 'test'")
        rng = random.Random(f"toyworld/{self.name}/{seed}/{index}")
        while True:
            scene = replace(self._draw(rng), style=self.style)
            if split is None or is_test(scene) == (split == "test"):
                return scene

    def scenes(self, count: int, seed: int = 0, split: str | None = None, start: int = 0) -> list[WideScene]:
        """The scenes start, ..., start + count - 1."""
        return [self.scene(index, seed, split) for index in range(start, start + count)]

    def words(self) -> dict[str, tuple[str | int, ...]]:
        """The possible values of each attribute, by the names of LABELS."""
        thing = ((1, 2, 3), tuple(words.SIZES), words.FILLS, tuple(words.COLORS), words.SHAPES, words.MOTIONS)
        place = (words.RELATIONS, words.BACKGROUNDS, tuple(words.BACKGROUND_COLORS), words.LIGHTS)
        columns = (*thing, words.SPEEDS, *thing, words.SPEEDS, *place, ("static shot", *CAMERAS_MOVING))
        return dict(zip(LABELS, columns, strict=True))

    def alike(self, scene: WideScene, lead: WideScene) -> WideScene:
        """The scene with the colors of another one, as far as it has as many things and a colored background."""
        colors = [thing.color for thing in lead.things]
        things = tuple(replace(t, color=c) for t, c in zip(scene.things, colors, strict=False))
        background = scene.background_color and (lead.background_color or scene.background_color)
        return replace(scene, things=(*things, *scene.things[len(things) :]), background_color=background)

    def _draw(self, rng: random.Random) -> WideScene:
        relation = rng.choice(words.RELATIONS) if rng.random() < self.pairs else None
        things = draw_pair(rng, relation) if relation else (draw_single(rng),)
        background = rng.choices(words.BACKGROUNDS, _BACKGROUND_WEIGHTS)[0]
        colored = background in COLORED
        textured = background not in words.UNTEXTURED
        moving = textured and rng.random() >= self.static_share
        return with_details(
            things,
            relation,
            background=background,
            background_color=rng.choice(tuple(words.BACKGROUND_COLORS)) if colored else None,
            light=rng.choice(words.LIGHTS_OF.get(background, words.LIGHTS)),
            camera=rng.choice(CAMERAS_MOVING) if moving else "static shot",
            rng=rng,
        )


COLORED = ("plain", "gradient", "checkered")
CAMERAS_MOVING = (
    *(f"{kind} {side}" for kind in ("pan", "tilt") for side in ("left", "right", "up", "down")),
    *("zoom in", "zoom out", "around left", "around right", "handheld shot"),
)


def is_test(scene: WideScene) -> bool:
    """True if this combination of words belongs to the split "test" rather than "train"."""
    return zlib.crc32("/".join(scene.words()).encode()) % TEST_SHARE == 0


# Where two things go together: along the line between them one would chase the other.
TOGETHER = {"left of": ("up", "down"), "above": ("left", "right"), "in front of": ("left", "right", "up", "down")}


def with_details(
    things: tuple[Thing, ...],
    relation: str | None,
    *,
    background: str = "plain",
    background_color: str | None = None,  # navy where the background has a color
    light: str = "day",
    camera: str = "static shot",
    rng: random.Random,
) -> WideScene:
    """A scene that shows these words, with random details."""
    return WideScene(
        things=things,
        relation=relation,
        background=background,
        background_color=(background_color or "navy") if background in COLORED else None,
        light=light,
        camera=camera,
        radii=tuple(words.SIZES[thing.size] * rng.uniform(0.94, 1.06) for thing in things),
        offset=(rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 1.0)),
        spare=(rng.random(), rng.random(), rng.random()),
        tints=tuple((_tint(rng), _tint(rng), _tint(rng)) for _ in things),
        phases=(_turn(rng), _turn(rng), _turn(rng), _turn(rng)),
    )


def draw_single(rng: random.Random) -> Thing:
    """A thing alone in its scene; up to three objects where they are small enough."""
    count = rng.choices((1, 2, 3), (7.0, 1.5, 1.5))[0]
    size = rng.choice(("small", "medium", "large")[: 4 - count])
    return _thing(rng, size, count, words.MOTIONS)


def draw_pair(rng: random.Random, relation: str) -> tuple[Thing, Thing]:
    """Two things of different colors that fit into the picture together."""
    count = 1 if relation == "in front of" or rng.random() < 0.75 else 2
    together = relation == "chasing" or (relation != "orbiting" and rng.random() < 0.4)
    sizes = _pair_sizes(rng, relation, count, together)
    colors = rng.sample(tuple(words.COLORS), 2)
    motions: tuple[tuple[str, str] | None, tuple[str, str] | None]
    if together:
        motion = rng.choice(TOGETHER.get(relation, tuple(words.DIRECTIONS)))
        speed = rng.choice(words.SPEEDS[: 3 if relation == "chasing" else 2])
        motions = ((motion, speed), (motion, speed))
    elif relation == "orbiting":
        motions = (("orbit", rng.choice(words.SPEEDS)), ("rest", "normal"))
    else:
        motions = (None, None)
    shapes = words.SOLID if relation == "in front of" else words.SHAPES
    first = _thing(rng, sizes[0], count, ("rest", "rotate"), shapes, motions[0], colors[0])
    return first, _thing(rng, sizes[1], 1, ("rest", "rotate"), shapes, motions[1], colors[1])


def _pair_sizes(rng: random.Random, relation: str, count: int, together: bool) -> tuple[str, str]:
    limit = 19.6 if together or count == 2 or relation == "orbiting" else 23.6
    while True:
        first, second = rng.choice(tuple(words.SIZES)), rng.choice(tuple(words.SIZES))
        if words.SIZES[first] + words.SIZES[second] > limit or (count == 2 and first == "large"):
            continue
        if relation == "in front of" and words.SIZES[first] > words.SIZES[second]:
            continue
        if relation == "orbiting" and (first == "large" or (first == "medium" and second != "small")):
            continue
        return first, second


def _thing(
    rng: random.Random,
    size: str,
    count: int,
    motions: tuple[str, ...],
    shapes: tuple[str, ...] = words.SHAPES,
    motion: tuple[str, str] | None = None,  # and its speed; None: drawn from motions
    color: str | None = None,
) -> Thing:
    shape = rng.choice(shapes)
    order = tuple(words.SIZES)
    fills = [fill for fill, shapes in words.FILL_SIZES.items() if fits(shape, size, shapes, order)]
    fill = rng.choice(fills) if fills and rng.random() < 0.5 else "plain"
    if motion is None:
        weights = [_MOTION_WEIGHTS.get(name, 0.75) * _possible(name, shape, fill, count) for name in motions]
        name = rng.choices(motions, weights)[0]
        motion = (name, rng.choice(words.SPEEDS) if name != "rest" else "normal")
    return Thing(shape, color or rng.choice(tuple(words.COLORS)), size, fill, *motion, count)


def fits(shape: str, size: str, shapes: dict[str, str], order: tuple[str, ...] = tuple(words.SIZES)) -> bool:
    """True if a fill with this column of FILL_SIZES can be seen on the shape at this size."""
    return shape in shapes and order.index(size) >= order.index(shapes[shape])


def _possible(motion: str, shape: str, fill: str, count: int) -> bool:
    """Turning a ring, or a circle that is plain or outlined, changes no pixel; several objects grow into each other."""
    if motion == "rotate":
        return shape != "ring" and not (shape == "circle" and fill in ("plain", "outlined"))
    return count == 1 or motion not in ("grow", "shrink")


def _tint(rng: random.Random) -> float:
    return rng.uniform(-0.03, 0.03)


def _turn(rng: random.Random) -> float:
    return rng.uniform(0.0, 2.0 * math.pi)
