"""Which words of a prompt a world does not know, and what it has that is nearest: said before anything is sampled."""

import difflib
import re
from dataclasses import dataclass

from hunyuan_video.data.toyworld.captions import vocabulary
from hunyuan_video.data.toyworld.parsing import SYNONYMS
from hunyuan_video.data.toyworld.scene import World
from hunyuan_video.data.toyworld.wide.phrases import plural, plural_synonyms
from hunyuan_video.data.toyworld.wide.scene import WideWorld

_SHOWN = 8  # unknown words that are named one by one
_ALIKE = 0.75  # of two spellings, from which on one may be a slip of the other
# Words that say nothing of what is seen, or only join others.
FILLERS = frozenset(
    """
    a an and are as at be by can clip do does each every for from has have her his i image in into is it its just let
    like make me movie my of on one or our over please scene show showing shows so some that the their them then there
    these they this to together towards under up very video we while with you your animation
    """.split()
)
# What people ask for -> words of a world that come nearest in meaning, best first.
NEAR = {
    "square": ("cube", "box", "block", "rectangle", "window", "tile", "house", "dice", "brick", "robot"),
    "circle": ("sphere", "globe", "planet", "sun", "earth", "wheel", "coin", "balloon", "bubble", "dot", "egg", "face"),
    "triangle": ("pyramid", "cone", "arrow", "mountain", "tent", "wedge"),
    "star": ("asterisk", "snowflake", "flower", "spark", "sparkle"),
    "heart": ("love", "valentine"),
    "ring": ("donut", "hoop", "tire", "torus", "bracelet"),
    "moon": ("crescent", "banana"),
    "cross": ("plus", "x"),
    "navy": ("ocean", "sea", "water", "indigo"),
    "brown": ("beige", "tan", "wood", "desert", "sand"),
    "purple": ("violet", "lavender", "magenta"),
    "red": ("crimson", "scarlet", "maroon"),
    "yellow": ("gold", "golden", "amber"),
    "gray": ("grey", "silver", "metal"),
    "green": ("lime", "emerald", "grass"),
    "landscape": ("hill", "hills", "forest", "field", "meadow", "valley", "nature", "country", "garden", "park"),
    "starry": ("space", "galaxy", "universe", "cosmos"),
    "night": ("dark", "midnight"),
    "dusk": ("sunset", "twilight", "dawn", "sunrise"),
    "moves": ("runs", "walks", "drives", "swims", "rolls", "races", "run", "walk", "drive", "swim", "roll", "race"),
    "bounces": ("jumps", "hops", "leaps", "jump", "hop", "dances", "dance"),
    "rotates": ("spins", "turns", "twirls", "spin", "turn"),
    "large": ("big", "huge", "giant", "enormous", "great"),
    "small": ("little", "tiny", "mini"),
    "checkered": ("chessboard", "checkerboard", "chess"),
}


@dataclass(frozen=True)
class Unknown:
    """A word that a world does not know, and the word of it that is nearest, if any is near."""

    word: str
    nearest: str | None

    def __str__(self) -> str:
        return f"{self.word}: not in this world" + (f"; nearest: {self.nearest}" if self.nearest else "")


def known_words(world: World | WideWorld) -> set[str]:
    """Every word that means something to a checkpoint of this world, with its synonyms and plurals."""
    accepted = {word for word in vocabulary(world) if word.isalpha()}
    if isinstance(world, WideWorld):
        table = plural_synonyms()
        return accepted | {other for word in set(table) & accepted for other in table[word]}
    accepted |= {other for other, word in SYNONYMS.items() if word in accepted}
    return accepted | {plural(shape) for shape in world.shapes}


def unknown_words(prompt: str, world: World | WideWorld) -> list[Unknown]:
    """The words of a prompt that the world does not know, each once, in their order."""
    known = known_words(world)
    prompt_words = dict.fromkeys(re.findall(r"[^\W\d_]+|\d+", prompt.lower()))
    return [Unknown(word, nearest(word, known)) for word in prompt_words if word not in known and word not in FILLERS]


def nearest(word: str, known: set[str]) -> str | None:
    """The known word of nearest meaning, else of nearest spelling, else None."""
    bases = {word, word.removesuffix("s"), word.removesuffix("es")}
    for meant, others in NEAR.items():
        if meant in known and bases & {meant, *others}:
            return meant
    alike = difflib.get_close_matches(word, sorted(known), n=1, cutoff=_ALIKE) if len(word) > 3 else []
    return alike[0] if alike else None


def prompt_notes(prompt: str, world: World | WideWorld) -> list[str]:
    """Lines that say what of a prompt the world cannot show; none where it knows every word and a shape is named."""
    shapes = list(world.words()["shape"])
    if not prompt.strip():
        return [f"the prompt is empty: anything of this world may be shown; it has {_listed(shapes)}"]
    unknown = unknown_words(prompt, world)
    lines = [str(word) for word in unknown[:_SHOWN]]
    if len(unknown) > _SHOWN:
        lines.append(f"{len(unknown) - _SHOWN} more words are not in this world")
    names = {name for shape in shapes for name in (str(shape), plural(str(shape)))}
    table = plural_synonyms() if isinstance(world, WideWorld) else _synonyms_of(names)
    names |= {other for name in names for other in table.get(name, ())}
    if not names & set(re.findall(r"[a-z]+", prompt.lower())):
        lines.append(f"no shape of this world is named; it has {_listed(shapes)}")
    return lines


def _synonyms_of(names: set[str]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(other for other, word in SYNONYMS.items() if word == name) for name in names}


def _listed(words: list) -> str:
    return ", ".join(str(word) for word in words)


def word_table(world: World | WideWorld) -> list[str]:
    """The world's vocabulary as lines, an attribute each."""
    rows = {name: values for name, values in world.words().items() if not name.startswith("other_")}
    return [f"{name.replace('_', ' ')}: {_listed(list(values))}" for name, values in rows.items()]
