"""Progress of a running job, and the time that is left."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Progress:
    """A running job's steps, since its worker began or continued it."""

    total: int
    step: int = 0
    began: float = field(default_factory=time.monotonic)
    first: tuple[float, int] | None = None  # time and number of the first step that was reported
    latest: float = 0.0

    def update(self, step: int) -> float | None:
        """A step is done; seconds since the one before."""
        now = time.monotonic()
        since = None if self.first is None else now - self.latest
        self.first = self.first or (now, step)
        self.step, self.latest = step, now
        return since

    @property
    def eta(self) -> float | None:
        """Seconds until the last step, None before two steps are known."""
        if self.first is None or self.step == self.first[1]:
            return None
        each = (self.latest - self.first[0]) / (self.step - self.first[1])
        return max(each * (self.total - self.step) - (time.monotonic() - self.latest), 0.0)
