"""The word of a world that is nearest to one that it does not know: in meaning, else a slip of the keyboard."""

from functools import cache

# What people ask for -> words of a world that come nearest in meaning.
NEAR = {
    "square": "cube box block rectangle window tile house building tower dice brick robot tv phone quadrat cuadrado",
    "circle": "sphere globe planet sun earth wheel coin balloon bubble dot egg face head ball kreis círculo cercle",
    "triangle": "pyramid cone arrow mountain tent wedge dreieck triángulo tree",
    "star": "asterisk snowflake flower spark sparkle firework fireworks stern estrella étoile stella",
    "heart": "love valentine herz corazón coeur cœur cuore",
    "ring": "donut hoop tire torus bracelet anillo anneau",
    "moon": "crescent banana mond luna lune",
    "cross": "plus x kreuz cruz croix",
    "navy": "ocean sea water indigo",
    "brown": "beige tan wood desert sand braun",
    "purple": "violet lavender magenta",
    "red": "crimson scarlet maroon rot rote roter rotes rojo roja rouge rosso rossa",
    "yellow": "gold golden amber gelb gelbe gelber gelbes amarillo amarilla jaune giallo",
    "gray": "grey silver metal black grau gris",
    "green": "lime emerald grass grün grüne grüner grünes verde vert verte",
    "blue": "blau blaue blauer blaues azul bleu bleue blu",
    "white": "ivory weiß weiße weißer weißes blanco blanca blanc blanche bianco",
    "orange": "tangerine naranja arancione",
    "pink": "rose rosa",
    "black": "schwarz schwarzer noir noire negro negra nero",
    "landscape": "hill hills forest field meadow valley nature country garden park beach mountains",
    "starry": "space galaxy universe cosmos stars",
    "night": "dark midnight nacht noche nuit",
    "dusk": "sunset twilight dawn sunrise evening",
    "day": "morning noon daytime sunny",
    "moves": """runs walks drives swims rolls races flies gallops run walk drive swim roll race fly gallop
        running walking driving swimming bewegt mueve""",
    "bounces": "jumps hops leaps jump hop dances dance dancing jumping springt",
    "rotates": "spins turns twirls spin turn spinning rotating dreht gira tourne",
    "large": "big huge giant enormous great groß grande grand",
    "small": "little tiny mini klein kleiner pequeño petit",
    "three": "3 4 5 6 7 8 9 10 four five six seven eight nine ten many several dozens hundreds",
    "two": "2 pair both couple zwei dos deux",
    "checkered": "chessboard checkerboard chess",
    "left": "links izquierda gauche sinistra",
    "right": "rechts derecha droite destra",
    "up": "oben arriba haut",
    "down": "unten abajo bas",
}
_LEAST = 5  # letters of a word that may be a slip of another; four, where two letters changed places
# Words of prompts that are one letter from a word of a world and mean something else.
_NO_SLIPS = frozenset(
    "start starts starting heard great raining spring plane plains grows world words right night".split()
)


def nearest(word: str, known: set[str]) -> str | None:
    """The known word of nearest meaning, else the one of which `word` is a slip of one letter, else None."""
    for base in (word, word.removesuffix("s"), word.removesuffix("es")):
        if base in known:
            return base
        meant = _meanings().get(base, "")
        for near in (meant, _meanings().get(meant)):
            if near in known:
                return near
    for candidate in () if word in _NO_SLIPS else sorted(known):
        if len(candidate) >= 4 and is_slip(word, candidate):
            return candidate
    return None


@cache
def _meanings() -> dict[str, str]:
    return {other: meant for meant, others in NEAR.items() for other in others.split()}


def is_slip(word: str, meant: str) -> bool:
    """True if `word` is `meant` with one letter wrong, missing, doubled or too many, or two that changed places.

    The first letter must be right: most real words of another meaning differ there ("night", "right").
    """
    if word[:1] != meant[:1] or word == meant:
        return False
    start = next((i for i, (a, b) in enumerate(zip(word, meant, strict=False)) if a != b), min(len(word), len(meant)))
    rest, other = word[start:], meant[start:]
    if len(rest) == len(other) and rest[:2] == other[1::-1] and rest[2:] == other[2:]:
        return len(word) >= _LEAST - 1
    one_letter = rest[1:] == other[1:] or rest[1:] == other or rest == other[1:]
    return one_letter and len(word) >= _LEAST
