"""The fraction of a run that is done: of its steps, or of the time it was given."""

from __future__ import annotations

import time

from hunyuan_video.distributed.ranks import Ranks
from hunyuan_video.training.config import LoopConfig


class Pace:
    """The fraction of a run that is done, alike on all ranks; the learning rate and the end of the run follow it.

    With `loop.max_seconds` it is that of the time, measured from the first step and continued by a resumed run, or that
    of the steps, whichever is further.
    """

    def __init__(self, loop: LoopConfig, ranks: Ranks):
        self.steps, self.limit, self.ranks = loop.steps, loop.max_seconds, ranks
        self.seconds = 0.0  # of training so far, where there is a limit
        self.begun: float | None = None
        self.before = 0.0  # seconds of the runs that this one continues

    def start(self, seconds: float) -> None:
        """Begins, or goes on after so many seconds."""
        self.before = self.seconds = seconds
        self.begun = time.monotonic()

    def tick(self) -> None:
        """Looks at the clock; called once a step, so that all of a step sees the same time."""
        if self.limit and self.begun is not None:
            self.seconds = self.before + self.ranks.mean([time.monotonic() - self.begun])[0]

    def done(self, step: int) -> float:
        """0..1, at the start of a step."""
        by_time = self.seconds / self.limit if self.limit else 0.0
        return min(max(step / self.steps, by_time), 1.0)

    def state(self) -> dict[str, float]:
        """Seconds for a checkpoint to keep, for `start`."""
        return {"seconds": self.seconds} if self.limit else {}

    def over(self, step: int) -> bool:
        """True if no further step is made after so many."""
        return step >= self.steps or bool(self.limit) and self.seconds >= self.limit
