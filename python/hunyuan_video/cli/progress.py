"""Progress of long work on stderr: a bar on a terminal, plain lines (at most one in two seconds) otherwise."""

from __future__ import annotations

import sys
import time

LINE_EVERY = 2.0  # seconds


class Progress:
    """Counts steps of one piece of work; `start` steps were done in an earlier run."""

    def __init__(self, title: str, total: int, start: int = 0):
        self.title, self.total, self.start = title, total, start
        self.began = self.last_line = time.monotonic()
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=start, desc=title, unit="step", dynamic_ncols=True)

    def update(self, step: int) -> None:
        """`step` steps are done."""
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
            return
        now = time.monotonic()
        if step == self.total or now - self.last_line >= LINE_EVERY:
            self.last_line = now
            each = (now - self.began) / max(step - self.start, 1)
            left = each * (self.total - step)
            print(f"{self.title}: step {step}/{self.total}, {each:.2f} s/step, {left:.0f} s left", file=sys.stderr)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
