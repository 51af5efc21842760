"""Long computations that may be stopped from outside: they look, between their parts, whether they are still wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """A computation ended at an interruption point; it has no result."""


_current = threading.local()


@contextmanager
def interruptible(asked: Callable[[], bool]) -> Iterator[None]:
    """Within the block, in this thread, `interruption_point` raises Interrupted once asked() is true."""
    before = getattr(_current, "asked", None)
    _current.asked = asked
    try:
        yield
    finally:
        _current.asked = before


def interruption_point() -> None:
    """Raises Interrupted where the block around it wants that; between parts of a computation that takes seconds."""
    asked = getattr(_current, "asked", None)
    if asked is not None and asked():
        raise Interrupted
