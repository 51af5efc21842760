"""Rules for values of arguments and settings: a rule is the check, and what a form or a schema needs to know of it."""

from __future__ import annotations

import ctypes
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

from hunyuan_video.errors import ArgumentError


@dataclass(frozen=True)
class Count:
    """A whole number from 1 to `most`."""

    most: int
    type = int

    def check(self, name: str, value: Any) -> int:
        return check_count(name, value, self.most)


@dataclass(frozen=True)
class Number:
    """A finite number in [low, high], or (low, high] with `above`. hint: what a wrong value's message ends in."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    hint: str = ""
    type = float

    def check(self, name: str, value: Any) -> float:
        return check_number(name, value, low=self.low, high=self.high, above=self.above, hint=self.hint)


@dataclass(frozen=True)
class Choice:
    """One of some words; a function of no arguments gives those whose list needs torch."""

    words: tuple[str, ...] | Callable[[], tuple[str, ...]]
    type = str

    @property
    def choices(self) -> tuple[str, ...]:
        return self.words() if callable(self.words) else self.words

    def check(self, name: str, value: Any) -> str:
        check_choice(name, value, self.choices)
        return value


@dataclass(frozen=True)
class Flag:
    """True or False."""

    type = bool

    def check(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ArgumentError(f"{name} must be True or False, got {value!r}")
        return value


@dataclass(frozen=True)
class Levels:
    """Noise levels in (0, 1], each below the one before; a 0 at the end may be left out. At most `most`, without it.

    Any sequence of numbers, or text with commas between them; the value is a tuple that ends in 0.0.
    """

    most: int
    type = str  # on the command line

    def check(self, name: str, value: Any) -> tuple[float, ...]:
        levels = _numbers(name, value)
        levels = levels[:-1] if levels and levels[-1] == 0 else levels
        if not 1 <= len(levels) <= self.most:
            raise ArgumentError(f"{name} must be 1 to {self.most} noise levels above 0, got {len(levels)}")
        for number, level in enumerate(levels, start=1):
            check_number(f"{name}: level {number}", level, low=0, high=1, above=True)
        rounded = [ctypes.c_float(level).value for level in levels]  # as they are used
        for number, (before, level) in enumerate(pairwise(rounded), start=2):
            if level >= before:
                raise ArgumentError(
                    f"{name} must fall from noise to data, and level {number} ({levels[number - 1]:g}) is not below "
                    f"the one before ({levels[number - 2]:g}); give them in falling order"
                )
        if rounded[-1] == 0:
            raise ArgumentError(f"{name}: level {len(levels)} ({levels[-1]:g}) is 0 in float32; leave it out")
        return (*levels, 0.0)


@dataclass(frozen=True)
class Method:
    """One of some methods, with a number of its own: "word" or "word:number"; `off` is none of them, and becomes None.

    usual: word -> its number where none is given. The number is in [low, high], or (low, high] with `above`.
    """

    off: str
    usual: tuple[tuple[str, float], ...]
    low: float
    high: float
    above: bool = False
    type = str

    def check(self, name: str, value: Any) -> str | None:
        """ "word:number", whether a number was given or not; None for `off`."""
        word, colon, number = value.partition(":") if isinstance(value, str) else ("", "", "")
        if word == self.off and not colon:
            return None
        usual = dict(self.usual)
        if word not in usual:
            shown = ", ".join(f"{known}[:NUMBER]" for known in usual)
            raise ArgumentError(f"{name} must be {self.off}, {shown}, got {value!r}")
        if not colon:
            return f"{word}:{usual[word]!r}"
        try:
            given = float(number)
        except ValueError:
            raise ArgumentError(f"{name}: {word} must be followed by a number, got {number!r}") from None
        hint = f"{word}:{usual[word]:g} is usual"
        return f"{word}:{check_number(name, given, low=self.low, high=self.high, above=self.above, hint=hint)!r}"


def method_of(value: str) -> tuple[str, float]:
    """Word and number of what `Method.check` gave."""
    word, _, number = value.partition(":")
    return word, float(number)


def _numbers(name: str, value: Any) -> list[float]:
    """The entries of a sequence, array or text as floats."""
    if isinstance(value, str):
        try:
            return [float(entry) for entry in value.split(",")]
        except ValueError:
            raise ArgumentError(f"{name} must be numbers with commas between them, got {value!r}") from None
    listed = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(listed, Sequence):
        raise ArgumentError(f"{name} must be a list of noise levels, got {value!r}")
    return [check_number(f"{name}: level {number}", entry) for number, entry in enumerate(listed, start=1)]


Rule = Count | Number | Choice | Flag | Levels | Method
AT_LEAST_ONE = Number(low=1)
NOT_NEGATIVE = Number(low=0)
ABOVE_ZERO = Number(low=0, above=True)
SHARE = Number(low=0, high=1)
FINITE = Number()


def limited(default: Any, rule: Rule) -> Any:
    """A dataclass field whose value, or every entry of it, obeys a rule."""
    return field(default=default, metadata={"rule": rule})


def check_number(
    name: str, value: Any, *, low: float = -math.inf, high: float = math.inf, above: bool = False, hint: str = ""
) -> float:
    """The value as a float; ArgumentError unless it is a finite number in [low, high], or (low, high] with `above`."""
    end = f" ({hint})" if hint else ""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentError(f"{name} must be a number, got {value!r}{end}")
    number = float(value)
    if not math.isfinite(number):
        raise ArgumentError(f"{name} must be a finite number, got {number}{end}")
    if number < low or number > high or (above and number == low):
        wanted = f"{'more than' if above else 'at least'} {low:g}" if math.isfinite(low) else ""
        wanted += f"{' and ' if wanted else ''}at most {high:g}" if math.isfinite(high) else ""
        raise ArgumentError(f"{name} must be {wanted}, got {number:g}{end}")
    return number


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ArgumentError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_count(name: str, value: Any, most: int) -> int:
    """The value as an int; ArgumentError unless it is a whole number between 1 and `most`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ArgumentError(f"{name} must be a whole number, got {value!r}")
    count = int(value)
    if not 1 <= count <= most:
        raise ArgumentError(f"{name} must be between 1 and {most}, got {count}")
    return count


MOST = 2**64 - 1  # of a whole number; seeds are the largest
MOST_SIZE = 2**31  # of a model
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a finite number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "text"),
    "dict": ((dict,), "a table"),
    "list": ((list,), "a list"),
    "tuple": ((tuple, list), "a list"),
}


def check_field_types(config: Any, positive: tuple[str, ...] = ()) -> None:
    """TypeError for the first field of a dataclass whose value is not of its declared type: files say anything.

    The types are those of `KINDS`, also with "| None", and lists and tuples of them; float takes whole numbers too, int
    nothing beyond 64 bits, and 1 to 2^31 for names in `positive`. They are strings, as `from __future__ import
    annotations` leaves them; others are not checked.
    """
    for entry in dataclasses.fields(config):
        declared, value = str(entry.type), getattr(config, entry.name)
        if declared.endswith(" | None"):
            if value is None:
                continue
            declared = declared.removesuffix(" | None")
        kind, _, inner = declared.partition("[")
        _check_kind(entry.name, kind, value, size=entry.name in positive)
        if kind in ("list", "tuple"):
            for item in value:
                _check_kind(entry.name, inner.rstrip("]").split(",")[0], item)


def _check_kind(name: str, kind: str, value: Any, size: bool = False) -> None:
    types, words = KINDS.get(kind, ((object,), ""))
    right = isinstance(value, types)
    if kind in ("int", "float"):
        right = right and not isinstance(value, bool) and (kind == "int" or math.isfinite(value))
        right = right and (kind == "float" or (1 if size else -MOST) <= value <= (MOST_SIZE if size else MOST))
    if not right:
        shown = repr(value)
        more = " of 1 or more" if size else ""
        raise TypeError(f"{name} must be {words}{more}, got {shown if len(shown) < 60 else shown[:57] + '...'}")
