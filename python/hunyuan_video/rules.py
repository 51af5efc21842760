"""Rules for values of arguments and settings: a rule is the check, and what a form or a schema needs to know of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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


Rule = Count | Number | Choice | Flag
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
