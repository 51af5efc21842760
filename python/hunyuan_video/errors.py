"""Exceptions and lines meant for people: each text is one line that says what is wrong and what to do."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Print = Callable[[str], None]  # where lines for people go


class UserError(Exception):
    """Bad input or a failed run. The command line prints the text and exits with 1."""


class ArgumentError(UserError, ValueError):
    """An argument with a wrong value: names the argument, the value and the nearest one that works."""


class OutOfMemory(UserError):
    """There is not enough memory for a part of the work."""


class Interruption(UserError):
    """Work that a person stopped (Ctrl-C, SIGTERM): what is safe, how it goes on. The command line exits with 130."""


class Notice(UserWarning):
    """Warning to a user about work that goes on. The command line prints the text."""


class IneffectiveArgument(Notice):
    """An argument that was given and changes nothing. Names are those of Python; the command line prints its own."""


class PrecisionWarning(Notice):
    """The models run in another dtype than was asked for. The command line prints the text."""


class ApproximateMode(Notice):
    """The run takes a shorter way than the exact one. The command line prints the text."""


def notify(text: str, category: type[Notice] = Notice) -> None:
    """Warns with a line for people, at the line that called this package, however deep in it the warning is made."""
    package = __name__.partition(".")[0]
    place: FrameType = sys._getframe(1)
    frame: FrameType | None = place
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package and frame.f_back is not None:
            place = frame.f_back
        frame = frame.f_back
    names = place.f_globals
    module, seen = names.get("__name__"), names.setdefault("__warningregistry__", {})
    warnings.warn_explicit(text, category, place.f_code.co_filename, place.f_lineno, module, seen)


@contextmanager
def explained_memory_errors(what: str, advice: str) -> Iterator[None]:
    """Turns torch's out-of-memory errors (an own class on GPUs, a RuntimeError on the CPU) into `OutOfMemory`."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(f"not enough memory for {what}; {advice}") from error
    except RuntimeError as error:
        text = str(error).lower()
        if "out of memory" in text or "can't allocate memory" in text:
            raise OutOfMemory(f"not enough memory for {what}; {advice}") from error
        raise
