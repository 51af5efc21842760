"""Words of a prompt that a world does not know, and what it has that is nearest: said before anything is sampled."""

import re
import unicodedata
from dataclasses import dataclass

from hunyuan_video.data.toyworld import phrases
from hunyuan_video.data.toyworld.captions import vocabulary
from hunyuan_video.data.toyworld.clashes import clashes
from hunyuan_video.data.toyworld.nearest import nearest
from hunyuan_video.data.toyworld.scene import World
from hunyuan_video.data.toyworld.wide.phrases import PLURALS, plural_synonyms
from hunyuan_video.data.toyworld.wide.scene import WideWorld

EXAMPLE = "a red circle moves right on a navy background"  # every world knows all of it
_SHOWN = 6  # unknown words that are named one by one
_LONGEST = 30  # letters of a word that are repeated to who wrote it
# Words that say nothing of what is seen, or only join others.
FILLERS = frozenset(
    """
    a an and are as at be by can clip do does each every for from has have her his i image in into is it its just let
    like make me movie my of on one or our over please scene show showing shows so some something that the their them
    then there these they this to together towards under up very video we while with you your animation
    """.split()
)


@dataclass(frozen=True)
class Unknown:
    """A word that a world does not know, and the word of it that is nearest, if any is near."""

    word: str
    nearest: str | None

    def __str__(self) -> str:
        word = self.word if len(self.word) <= _LONGEST else f"{self.word[:_LONGEST]}..."
        return f"{word}: not in this world" + (f"; nearest: {self.nearest}" if self.nearest else "")


def known_words(world: World | WideWorld) -> set[str]:
    """Every word that means something to a checkpoint of this world: those of its captions and their synonyms."""
    accepted = {word for word in vocabulary(world) if word.isalpha()}
    table = plural_synonyms() if isinstance(world, WideWorld) else phrases.SYNONYMS
    return accepted | {other for word in set(table) & accepted for other in table[word]}


def unknown_words(prompt: str, world: World | WideWorld) -> list[Unknown]:
    """The words, numbers and pictures of a prompt that the world does not know, each once, in their order."""
    known = known_words(world)
    asked = dict.fromkeys(_words(prompt))
    return [Unknown(word, nearest(word, known)) for word in asked if word not in known and word not in FILLERS]


def _words(text: str) -> list[str]:
    """Runs of letters (with the marks that some alphabets put on them) and digits, and of emoji, in lower case."""
    kinds = {"L": "a", "M": "a", "N": "a", "S": "*"}
    text = unicodedata.normalize("NFC", text).lower()
    marked = "".join(kinds.get(unicodedata.category(letter)[0], " ") for letter in text)
    marked = "".join(
        " " if kind == "*" and letter.isascii() else kind for kind, letter in zip(marked, text, strict=True)
    )
    return [text[run.start() : run.end()] for run in re.finditer(r"a+|\*+", marked)]


def _is_foreign(word: str) -> bool:
    return any(letter.isalpha() and not letter.isascii() for letter in word)


def prompt_notes(prompt: str, world: World | WideWorld) -> list[str]:
    """Lines that say what of a prompt the world cannot show, ten at most; none where it can show all of it."""
    shapes = [str(shape) for shape in world.words()["shape"]]
    if not prompt.strip():
        return [f"the prompt is empty: anything of this world may be shown; it has {_listed(shapes)}"]
    known, unknown = known_words(world), unknown_words(prompt, world)
    lines = [str(word) for word in unknown[:_SHOWN]]
    if len(unknown) > _SHOWN:
        more = len(unknown) - _SHOWN
        lines.append(f"{more} more {'words are' if more > 1 else 'word is'} not in this world")
    asked = set(_words(prompt))
    if not asked & (known - FILLERS):
        why = "only English words are known; " if any(map(_is_foreign, asked)) else ""
        return [*lines, f'{why}no word of the prompt says what to show; try "{EXAMPLE}"']
    if not asked & _names(shapes, world):
        lines.append(f"no shape of this world is named; it has {_listed(shapes)}")
    return [*lines, *clashes(prompt, world)[:3]]


def _names(shapes: list[str], world: World | WideWorld) -> set[str]:
    """Every word for one or more of these shapes."""
    if not isinstance(world, WideWorld):
        return {name for shape in shapes for name in (shape, *phrases.SYNONYMS.get(shape, ()))}
    both = {name for shape in shapes for name in (shape, PLURALS[shape])}
    return both | {other for name in both for other in plural_synonyms().get(name, ())}


def _listed(words: list) -> str:
    return ", ".join(str(word) for word in words)


def word_table(world: World | WideWorld) -> list[str]:
    """The world's vocabulary as lines, an attribute each."""
    rows = {name: values for name, values in world.words().items() if not name.startswith("other_")}
    return [f"{name.replace('_', ' ')}: {_listed(list(values))}" for name, values in rows.items()]
