"""Scene of a clip: its attributes (words), its details (random numbers), and the worlds they are drawn from."""

import random
import zlib
from dataclasses import dataclass, replace

from hunyuan_video.data.toyworld import vocabulary as words
from hunyuan_video.data.toyworld.wide.scene import WideScene, WideWorld

ATTRIBUTES = ("shape", "color", "size", "motion", "texture", "background", "camera")
TEST_SHARE = 10  # one combination of attributes in so many belongs to the split "test"


@dataclass(frozen=True)
class Attributes:
    """The words of a clip. None: not chosen (only what comes from `parse`; a Scene has them all)."""

    shape: str | None
    color: str | None
    size: str | None
    motion: str | None
    texture: str | None
    background: str | None
    camera: str | None

    def attributes(self) -> dict[str, str | None]:
        """The seven words as a dictionary, in the order of ATTRIBUTES."""
        return {name: getattr(self, name) for name in ATTRIBUTES}


@dataclass(frozen=True)
class Scene(Attributes):
    """One clip, completely: all seven words are chosen, and rendering it twice gives the same pixels.

    Lengths in world units (64 = the shorter side), origin in the middle of the picture, y down.
    """

    shape: str
    color: str
    size: str
    motion: str
    texture: str
    background: str
    camera: str

    position: tuple[float, float]  # where the object is half-way through the clip
    radius: float
    travel: float  # length of the object's way, for the motions that have one
    tint: tuple[float, float, float]  # added to the object's color
    phases: tuple[float, float, float, float]  # radians: where the texture and the camera's shake start


@dataclass(frozen=True)
class World:
    """A set of words to draw scenes from; every combination of them that can be seen is possible."""

    name: str
    shapes: tuple[str, ...]
    colors: tuple[str, ...]
    sizes: tuple[str, ...]
    motions: tuple[str, ...]
    textures: tuple[str, ...]
    backgrounds: tuple[str, ...]
    cameras: tuple[str, ...]
    static_share: float  # share of static shots among the clips with a texture

    def scene(self, index: int, seed: int = 0, split: str | None = None) -> Scene:
        """The scene number `index` of the endless series `seed`: the same on every machine and in every order.

        split: None draws from everything; "train" and "test" draw from two sets that share no combination of
        attributes (one combination in ten is kept for "test").
        """
        if split not in (None, "train", "test"):
            raise ValueError(f"split is {split!r}; use None, 'train' or 'test'")
        rng = random.Random(f"toyworld/{self.name}/{seed}/{index}")
        while True:
            chosen = self._draw(rng)
            if split is None or is_test(Attributes(**chosen)) == (split == "test"):
                return _with_details(chosen, rng)

    def scenes(self, count: int, seed: int = 0, split: str | None = None, start: int = 0) -> list[Scene]:
        """The scenes start, ..., start + count - 1."""
        return [self.scene(index, seed, split) for index in range(start, start + count)]

    def words(self) -> dict[str, tuple[str, ...]]:
        """The possible values of each attribute, by its name."""
        columns = (self.shapes, self.colors, self.sizes, self.motions, self.textures, self.backgrounds, self.cameras)
        return dict(zip(ATTRIBUTES, columns, strict=True))

    def alike(self, scene: Scene, lead: Scene) -> Scene:
        """The scene with both colors of another one, as far as they can be seen on its texture."""
        visible = lead.background != "black" or scene.texture == "plain"
        return replace(scene, color=lead.color, background=lead.background if visible else scene.background)

    def _draw(self, rng: random.Random) -> dict[str, str]:
        shape = rng.choice(self.shapes)
        # Turning a circle or a ring changes no pixel.
        motions = [motion for motion in self.motions if motion != "rotate" or shape not in ("circle", "ring")]
        texture = rng.choice(self.textures)
        # The two tones of black are too close for a texture.
        backgrounds = [name for name in self.backgrounds if name != "black" or texture == "plain"]
        moving = [camera for camera in self.cameras if camera != "static shot"]
        static = not moving or texture in words.UNTEXTURED or rng.random() < self.static_share
        return {
            "shape": shape,
            "color": rng.choice(self.colors),
            "size": rng.choice(self.sizes),
            "motion": rng.choice(motions),
            "texture": texture,
            "background": rng.choice(backgrounds),
            "camera": "static shot" if static else rng.choice(moving),
        }


def is_test(attributes: Attributes) -> bool:
    """True if this combination of attributes belongs to the split "test" rather than "train"."""
    text = "/".join(str(word) for word in attributes.attributes().values())
    return zlib.crc32(text.encode()) % TEST_SHARE == 0


def with_details(attributes: Attributes, seed: int = 0) -> Scene:
    """A Scene that shows these attributes; random details from `seed`. A missing one becomes the plainest choice."""
    chosen = dict(zip(ATTRIBUTES, ("circle", "white", "medium", "static", "plain", "gray", "static shot"), strict=True))
    chosen.update({name: word for name, word in attributes.attributes().items() if word is not None})
    return _with_details(chosen, random.Random(f"toyworld/details/{seed}"))


def _with_details(chosen: dict[str, str], rng: random.Random) -> Scene:
    radius = words.SIZES[chosen["size"]] * rng.uniform(0.93, 1.07)
    return Scene(
        **chosen,
        position=(rng.uniform(-9.0, 9.0), rng.uniform(-9.0, 9.0)),
        radius=radius,
        travel=rng.uniform(26.0, 32.0),
        tint=(rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03)),
        phases=(_turn(rng), _turn(rng), _turn(rng), _turn(rng)),
    )


def _turn(rng: random.Random) -> float:
    return rng.uniform(0.0, 6.2831853)


AnyScene = Scene | WideScene
AnyWorld = World | WideWorld

WORLDS: dict[str, AnyWorld] = {
    # Moving cameras are seen only on a texture; static_share makes about 47 % of all clips static shots.
    "narrow": World(
        name="narrow",
        shapes=("circle", "square", "triangle", "star"),
        colors=tuple(words.OBJECT_COLORS),
        sizes=("medium", "large"),
        motions=("static", "left", "right", "up", "down"),
        textures=("plain", "striped", "checkered"),
        backgrounds=("gray", "navy", "brown", "teal", "black"),
        cameras=("static shot", "pan left", "pan right", "zoom in", "zoom out"),
        static_share=0.20,
    ),
    "full": World(
        name="full",
        shapes=words.SHAPES,
        colors=tuple(words.OBJECT_COLORS),
        sizes=tuple(words.SIZES),
        motions=words.MOTIONS,
        textures=words.TEXTURES,
        backgrounds=tuple(words.BACKGROUND_COLORS),
        cameras=words.CAMERAS,
        static_share=0.25,
    ),
    "wide": WideWorld(),
    # The wide world drawn in lines, what a style adapter learns; no judge knows its pictures.
    "lines": WideWorld(name="lines", style="lines"),
}
