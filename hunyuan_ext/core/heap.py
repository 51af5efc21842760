"""Memory that was freed but not given back to the system."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def release_free_memory() -> None:
    """Gives the free pages of the C library's heap back to the system; nothing where it is not glibc's.

    glibc keeps what is freed below 32 MB. Temporaries of changing sizes leave gaps there that later ones do not fit
    into: a decode then holds a third more than it uses. A call takes about a millisecond; it helps between steps
    whose temporaries differ.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or a system without one to ask
        return None
