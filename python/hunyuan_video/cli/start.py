"""A quick start of short commands."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection while libraries are imported and models load; where torch was not imported yet.

    That makes half a million objects, which stay; looking through them again and again takes a tenth of the time.
    They are left out of later collections too.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
