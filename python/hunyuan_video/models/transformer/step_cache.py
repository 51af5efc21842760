"""Evaluations that reuse what an earlier one computed, where the first block says that little has changed.

First-block caching (published as ParaAttention's): every evaluation runs the first block. If its change of the video
tokens is close to what it was at the last evaluation that ran all blocks, the others are left out, and what they added
then is added again; "linear" extrapolates it from the last two (the first order of the Taylor predictors). The result
is an approximation. A cache belongs to one run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hunyuan_video.models.transformer.executor import Layer, Run

# Results of all other blocks that are kept of a batch, by kind of cache; its first block's change is kept beside them.
KEPT = {"first_block": 1, "linear": 2}


class _Enough(Exception):
    """The first block has run, and the result of all blocks is known without the others."""

    def __init__(self, tokens: Tensor):  # [B, S, D]
        self.tokens = tokens


@dataclass
class _Memory:
    """One batch of videos. change: by the first block; added: by all others, the latest evaluation first."""

    change: Tensor | None = None  # [B, S, D]
    added: list[tuple[float, Tensor]] = field(default_factory=list)  # noise level, [B, S, D]

    def to(self, device: torch.device) -> None:
        """Brings what a state file held to where the blocks are."""
        if self.change is not None and self.change.device != device:
            self.change = self.change.to(device)
            self.added = [(level, tensor.to(device)) for level, tensor in self.added]


class StepCache(Layer):
    """Skips all blocks but the first while its relative change stays within `threshold`.

    The change is mean |c - c'| / mean |c'| over the tokens of a row, of the first block's changes c now and c' at the
    last full evaluation; the row of the batch that changes most decides. Hooks on the blocks that are skipped are not
    called. Memory: two tensors [B, S, D] for each batch of the run, three with `linear`.
    """

    place = "steps"

    def __init__(self, threshold: float, linear: bool = False):
        self.threshold, self.kept = threshold, KEPT["linear" if linear else "first_block"]
        self.computed = self.reused = 0  # evaluations that were free to be skipped
        self.least = float("inf")  # of their changes
        self._memories: dict[int, _Memory] = {}
        self._memory, self._level, self._free = _Memory(), 0.0, False
        self._waiting = False
        self._after: Tensor | None = None  # [B, S, D]

    def begin(self, batch: int, level: float, free: bool) -> None:
        """An evaluation comes: number of the batch of videos, noise level 0..1, and if it may be skipped at all."""
        self._memory = self._memories.setdefault(batch, _Memory())
        self._level, self._free = level, free

    def all_blocks(self, run: Run, img: list[Tensor], *args: Any, **kwargs: Any) -> Tensor:  # [B, S, D] -> [B, S, D]
        self._waiting, self._tokens = True, img[0].shape[1]
        try:
            out = run(img, *args, **kwargs)
        except _Enough as enough:
            self.reused += 1
            return enough.tokens
        after, self._after = self._after, None
        assert after is not None
        self._memory.added = [(self._level, out - after), *self._memory.added][: self.kept]
        return out

    def around(self, run: Run) -> Run:
        def watched(block: nn.Module, *args: Any) -> Any:
            if not self._waiting:
                return run(block, *args)
            self._waiting = False
            before = args[0][:, : self._tokens]
            out = run(block, *args)
            after = (out[0] if isinstance(out, tuple) else out)[:, : self._tokens]
            if self._unchanged(after - before):
                raise _Enough(after + self._added())
            self._after = after
            return out

        return watched

    def _unchanged(self, change: Tensor) -> bool:  # [B, S, D]
        """True if the evaluation may end here; else the change becomes the one to compare with."""
        self._memory.to(change.device)
        last = self._memory.change
        if self._free and last is not None and last.shape == change.shape:
            relative = float(relative_change(change, last).max())
            self.least = min(self.least, relative)
            if relative <= self.threshold:
                return True
            self.computed += 1
        self._memory.change = change
        return False

    def _added(self) -> Tensor:  # [B, S, D]
        """Prediction of what the other blocks would add."""
        (level, latest), *earlier = self._memory.added
        if not earlier or earlier[0][0] == level:
            return latest
        before, older = earlier[0]
        return torch.lerp(older, latest, (self._level - before) / (level - before))

    def state(self) -> dict[str, Tensor]:
        """All that later evaluations depend on, for `load_state`; tensors may be shared, and are never changed."""
        tensors = {"counts": torch.tensor([self.computed, self.reused, self.least], dtype=torch.float64, device="cpu")}
        for batch, memory in self._memories.items():
            if memory.change is not None and memory.added:
                tensors[f"{batch}.change"] = memory.change
            for age, (level, added) in enumerate(memory.added):
                tensors[f"{batch}.added.{age}"] = added
                tensors[f"{batch}.level.{age}"] = torch.tensor(level, dtype=torch.float64, device="cpu")
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on where `state` was taken. ValueError for tensors that are not of such a state."""
        if not tensors:
            return
        memories: dict[int, _Memory] = {}
        try:
            counts = tensors["counts"].tolist()
            self.computed, self.reused, self.least = int(counts[0]), int(counts[1]), float(counts[2])
            for name in sorted(tensors):
                if name == "counts":
                    continue
                number, kind, *_ = name.split(".")
                memory = memories.setdefault(int(number), _Memory())
                if kind == "change":
                    memory.change = tensors[name]
                elif kind == "added":
                    level = float(tensors[name.replace("added", "level")])
                    memory.added.append((level, tensors[name]))
        except (KeyError, ValueError, IndexError, TypeError, RuntimeError, OverflowError) as error:
            raise ValueError(f"not the state of a cache: {error}") from None
        for memory in memories.values():
            added = [tensor for _, tensor in memory.added]
            if memory.change is None or not added or any(tensor.shape != memory.change.shape for tensor in added):
                raise ValueError("not the state of a cache: its tensors do not belong together")
        self._memories = memories


def relative_change(now: Tensor, last: Tensor) -> Tensor:  # [B, S, D] each -> [B] fp32
    """mean |now - last| / mean |last| of each row; NaN where both are 0."""
    difference = (now - last).abs_().mean((1, 2), dtype=torch.float32)
    return difference / last.abs().mean((1, 2), dtype=torch.float32)
