"""Out-of-memory errors in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hunyuan_video.errors import UserError


@contextmanager
def explained_memory_errors(what: str, advice: str) -> Iterator[None]:
    """Turns torch's out-of-memory errors (an own class on GPUs, a RuntimeError on the CPU) into a UserError."""
    try:
        yield
    except MemoryError as error:
        raise UserError(f"not enough memory for {what}; {advice}") from error
    except RuntimeError as error:
        text = str(error).lower()
        if "out of memory" in text or "can't allocate memory" in text:
            raise UserError(f"not enough memory for {what}; {advice}") from error
        raise
