"""Commands that are stopped politely."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """A polite kill (SIGTERM) ends a command like Ctrl-C does. Not under torchrun: it ends ranks that wait for a lost
    one, inside a collective where Python answers no signal.
    """

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    if "TORCHELASTIC_RUN_ID" in os.environ:
        yield
        return
    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: signals are not ours to handle
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
