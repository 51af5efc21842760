"""Phrases for the wide world's words: verbs, prepositions, synonyms. `captions` joins them, `parsing` finds them."""

from hunyuan_video.data.toyworld.phrases import CAMERA_CLAUSES, CAMERA_LABELS
from hunyuan_video.data.toyworld.wide import vocabulary as words

NUMBERS = {1: ("a", "one"), 2: ("two",), 3: ("three",)}
PLURALS = {shape: f"{shape}s" for shape in words.SHAPES} | {"cross": "crosses"}

# (said of one object, said of several)
MOTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "rest": (("rests", "rest"), ("does not move", "do not move"), ("stays still", "stay still")),
    "bounce": (("bounces", "bounce"), ("bounces up and down", "bounce up and down"), ("is bouncing", "are bouncing")),
    "rotate": (("rotates", "rotate"), ("spins", "spin"), ("is rotating", "are rotating")),
    "grow": (("grows", "grow"), ("gets bigger", "get bigger"), ("is growing", "are growing")),
    "shrink": (("shrinks", "shrink"), ("gets smaller", "get smaller"), ("is shrinking", "are shrinking")),
    "orbit": (("moves in a circle", "move in a circle"), ("goes round and round", "go round and round")),
}
for _side in words.DIRECTIONS:
    _way = _side.replace("-", " and ")
    MOTIONS[_side] = (
        (f"moves {_way}", f"move {_way}"),
        (f"is moving {_way}", f"are moving {_way}"),
        (f"flies {_way}", f"fly {_way}"),
    )
    if _side in ("left", "right"):
        MOTIONS[_side] += ((f"moves to the {_way}", f"move to the {_way}"),)
ADVERBS = {"slow": "slowly", "normal": "", "fast": "quickly"}

# {first} and {second} are the things; the verb follows the number of its subject.
RELATIONS: dict[str, tuple[str, ...]] = {
    "left of": ("{first} {is_first} to the left of {second}", "{second} {is_second} to the right of {first}"),
    "above": ("{first} {is_first} above {second}", "{second} {is_second} below {first}"),
    "in front of": ("{first} {is_first} in front of {second}", "{second} {is_second} behind {first}"),
    "chasing": ("{first} {chases} {second}", "{first} {follows} {second}", "{second} {is_second} chased by {first}"),
    "orbiting": ("{first} {orbits} {second}", "{first} {circles} around {second}"),
}
VERBS = {"is_first": ("is", "are"), "chases": ("chases", "chase"), "follows": ("follows", "follow")}
VERBS |= {"orbits": ("orbits", "orbit"), "circles": ("circles", "circle")}
# Of a pair of which nothing moves, and of one that moves together ({does} in the plural).
NOTHING_MOVES = ("nothing moves", "both stay still", "both rest")
TOGETHER = ("both {does}", "they {does} together")

PLACES = {
    "plain": ("on a {color} background", "on a plain {color} background"),
    "gradient": ("on a {color} gradient", "on a {color} gradient background"),
    "checkered": ("on a checkered {color} background", "over a checkered {color} floor"),
    "starry": ("under a starry sky", "on a starry sky", "among the stars of the sky"),
    "landscape": ("over green hills", "in a landscape", "over the ground under the sky"),
}
LIGHTS = {
    "day": ("by day", "in daylight"),
    "dusk": ("at dusk", "in the evening"),
    "night": ("at night", "by night"),
}
SHOT_TYPES = {"small": "long shot", "medium": "medium shot", "large": "close shot"}
STYLE = "flat animation"
STYLES = {"flat": STYLE, "lines": "drawn in lines"}  # the latter starts every caption; all tokenizers have its words
ATMOSPHERES = {"rest": "calm", "rotate": "playful", "bounce": "playful", "grow": "tense", "shrink": "tense"}
ATMOSPHERES |= {"chasing": "exciting", "orbiting": "dreamy"}
OTHER_ATMOSPHERE = "lively"

# {what}: "two small stars chase a red circle"; {place}, {light}: as above; {camera}: a clause; {label}: "zoom in".
FORMS = (
    "{what} {place} {light}, {camera}",
    "{what} {place} {light}. {camera}.",
    "{light}, {what} {place}; {camera}",
    "{place}, {what} {light}. {camera}.",
    "{camera} while {what} {place} {light}",
    "{label}. {what} {place} {light}.",
    "{what} {light} {place}, {label}",
    "a video: {what} {place} {light}. {label}",
)
CAMERAS = {
    name: (tuple(f"the camera {c}" for c in clauses), CAMERA_LABELS[name]) for name, clauses in CAMERA_CLAUSES.items()
}

# What captions say -> what people also say; captions are varied with them, and prompts understood.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("ball", "disc", "disk", "sphere"),
    "square": ("box", "block"),
    "cross": ("plus",),
    "ring": ("donut", "hoop"),
    "moon": ("crescent",),
    "red": ("crimson", "scarlet"),
    "green": ("lime",),
    "purple": ("violet", "lilac"),
    "pink": ("rosa", "magenta"),
    "cyan": ("turquoise", "aqua"),
    "yellow": ("golden", "gold"),
    "gray": ("grey", "silver"),
    "large": ("big", "huge"),
    "small": ("little", "tiny"),
    "two": ("2",),
    "three": ("3",),
    "slowly": ("slow", "leisurely"),
    "quickly": ("fast", "rapidly"),
    "moves": ("travels", "drifts", "glides"),
    "move": ("travel", "drift", "glide"),
    "moving": ("traveling", "drifting", "gliding"),
    "flies": ("floats",),
    "fly": ("float",),
    "grows": ("expands",),
    "shrinks": ("contracts",),
    "spins": ("turns", "twirls"),
    "spin": ("turn", "twirl"),
    "rotating": ("spinning", "turning"),
    "bounces": ("jumps", "hops"),
    "bounce": ("jump", "hop"),
    "bouncing": ("jumping", "hopping"),
    "still": ("motionless",),
    "striped": ("stripy",),
    "dotted": ("spotted",),
    "outlined": ("bordered",),
    "checkered": ("checked", "chequered"),
    "background": ("backdrop",),
    "landscape": ("meadow", "countryside", "field"),
    "dusk": ("sunset", "twilight"),
    "static": ("fixed", "stationary"),
    "handheld": ("shaky",),
    "chases": ("hunts", "pursues"),
    "chase": ("hunt", "pursue"),
    "above": ("over",),
    "below": ("under", "beneath"),
    "video": ("clip", "movie", "animation"),
}


def plural_synonyms() -> dict[str, tuple[str, ...]]:
    """SYNONYMS with the plurals of the shapes."""
    table = dict(SYNONYMS)
    for shape in words.SHAPES:
        if shape in SYNONYMS:
            table[PLURALS[shape]] = tuple(plural(word) for word in SYNONYMS[shape])
    return table


def plural(word: str) -> str:
    """The plural of a noun."""
    return word + ("es" if word.endswith(("s", "x")) else "s")
