"""Progress of long work on stderr: a bar on a terminal, plain lines (at most one in two seconds) otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

LINE_EVERY = 2.0  # seconds


class Progress:
    """Counts steps of one piece of work; `start` steps were done in an earlier run."""

    def __init__(self, title: str, total: int, start: int = 0, unit: str = "step"):
        self.title, self.total, self.start, self.unit = title, total, start, unit
        self.began = self.last_line = time.monotonic()
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=start, desc=title, unit=unit, dynamic_ncols=True)

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
            counts = f"{self.unit} {step}/{self.total}, {each:.2f} s/{self.unit}"
            counts = f"{step} %" if self.unit == "%" else counts
            print(f"{self.title}: {counts}, {left:.0f} s left", file=sys.stderr)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


class Phases:
    """Watcher of `phases.watched` that shows each phase that takes more than two seconds, in percent."""

    def __init__(self) -> None:
        self.shown: dict[str, Callable[[int, int], None]] = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        update = self.shown.get(phase) or self.shown.setdefault(phase, progress_of(phase, "%"))
        update(100 * done // total, 100)
        if done >= total:
            del self.shown[phase]


def progress_of(title: str, unit: str) -> Callable[[int, int], None]:
    """Takes (done, total). Work of less than two seconds says nothing but on a terminal."""
    began = time.monotonic()
    shown: list[Progress] = []

    def update(done: int, total: int) -> None:
        if not shown and not sys.stderr.isatty() and time.monotonic() - began < LINE_EVERY:
            return
        if not shown:
            shown.append(Progress(title, total, unit=unit))
            shown[0].began = shown[0].last_line = began
        shown[0].update(done)
        if done == total:
            shown[0].close()

    return update
