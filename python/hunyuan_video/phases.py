"""Long phases of work tell how far they are, to whoever watches: nobody has to wait in silence.

Code that works for seconds calls `tell`; a command (or an application) looks on with `watched`. Without a watcher
nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watcher = Callable[[str, int, int], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


def tell(phase: str, done: int, total: int) -> None:
    """`done` of `total` (in any unit, bytes or clips) of a phase are done: "loading", "decoding", "converting" ..."""
    watcher = _watcher.get()
    if watcher is not None and total > 0:
        watcher(phase, done, total)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Within the block, in this thread, watcher(phase, done, total) is called as work goes on."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)
