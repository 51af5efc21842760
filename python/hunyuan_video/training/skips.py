"""Steps without an update, because a loss or a gradient was not finite: how many, why, and at which clips."""

from __future__ import annotations

from collections import Counter
from typing import Any

ENOUGH = 3  # steps without an update in a row, at the end of a run: it has diverged
SHOWN = 3  # clips in a line
KEPT = 1000  # clips that are counted


class Skips:
    """Counts of one run; survive a restart as `state`."""

    def __init__(self) -> None:
        self.total = 0
        self.in_row = 0
        self.causes: Counter[str] = Counter()
        self.clips: Counter[str] = Counter()

    def good(self) -> None:
        """A step with an update."""
        self.in_row = 0

    def bad(self, cause: str, clips: list[str]) -> None:
        """A step without one. cause: "loss" or "gradient". clips: those whose loss was not finite."""
        self.total, self.in_row = self.total + 1, self.in_row + 1
        self.causes[cause] += 1
        self.clips.update(name for name in clips if name in self.clips or len(self.clips) < KEPT)

    def diverged(self, steps: int) -> bool:
        """True if nothing was learned at the end of a run of so many steps."""
        return self.in_row >= min(ENOUGH, steps)

    def counts(self) -> dict[str, Any]:
        """For log.jsonl; nothing where no step was skipped."""
        if not self.total:
            return {}
        return {"skipped_by": dict(self.causes), "skipped_clips": dict(self.clips.most_common(20))}

    def state(self) -> dict[str, Any]:
        """Counts that a checkpoint keeps."""
        if not self.total:
            return {"skipped": 0}
        return {"skipped": self.total, "skipped_by": dict(self.causes), "skipped_clips": dict(self.clips)}

    def load(self, run: dict[str, Any]) -> None:
        self.total, self.in_row = run["skipped"], 0
        self.causes, self.clips = Counter(run.get("skipped_by", {})), Counter(run.get("skipped_clips", {}))

    def __str__(self) -> str:
        """As "3 skipped (loss 2, gradient 1; clips 17x64x64/a 2, b 1)"."""
        causes = ", ".join(f"{name} {count}" for name, count in self.causes.most_common())
        worst = ", ".join(f"{name} {count}" for name, count in self.clips.most_common(SHOWN))
        return f"{self.total} skipped ({causes}{'; clips ' + worst if worst else ''})"
