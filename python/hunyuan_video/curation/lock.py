"""One run at a time in a folder; runs of different parts may share one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from hunyuan_video.errors import UserError

try:
    import fcntl as _fcntl
except ImportError:  # Windows has none: two runs into one folder are not told there
    _lock: Any = None
else:
    _lock = _fcntl


@contextmanager
def sole_run(output: Path, part: tuple[int, int]) -> Iterator[None]:
    """UserError where another run works on the same part, or one of them on all. The system frees it at any death."""
    with (output / ".lock").open("a") as whole, (output / f".lock.{part[0]}.{part[1]}").open("a") as own:
        _take(whole, output, exclusive=part[1] == 1)
        _take(own, output, exclusive=True)
        yield


@contextmanager
def sole_merge(output: Path) -> Iterator[None]:
    """Waits until no other run writes the manifest."""
    with (output / ".lock.manifest").open("a") as file:
        if _lock is not None:
            _lock.flock(file, _lock.LOCK_EX)
        yield


def _take(file: IO[str], output: Path, exclusive: bool) -> None:
    if _lock is None:
        return
    try:
        _lock.flock(file, (_lock.LOCK_EX if exclusive else _lock.LOCK_SH) | _lock.LOCK_NB)
    except OSError:
        raise UserError(f"{output}: another run works in this folder; wait for it, or give another folder") from None
