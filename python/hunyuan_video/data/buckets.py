"""Buckets: which shapes a run trains on, how many samples of each fit, and who draws which when (paper section 4.6).

A bucket is a duration x an aspect ratio. Buckets of one anchor have about the same area, so cost about the same; a
micro-batch holds clips of one bucket, as many as a budget of tokens allows: small pictures many, long clips few.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hunyuan_video.errors import UserError
from hunyuan_video.models.grid import Grid


@dataclass(frozen=True)
class Bucket:
    """The shape of clips that are trained together."""

    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"

    @classmethod
    def parse(cls, text: str, grid: Grid) -> Bucket:
        """From "17x64x64". Raises UserError unless the VAE and the patches divide it evenly."""
        try:
            frames, height, width = (int(part) for part in text.split("x"))
        except ValueError:
            raise UserError(f"bucket {text!r}: write FRAMESxHEIGHTxWIDTH, for example 17x64x64") from None
        if not grid.fits(frames, height, width):
            raise UserError(f"bucket {text!r}: {grid.rule}")
        return cls(frames, height, width)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, height, width), as `Grid` takes them."""
        return self.frames, self.height, self.width


def tokens(bucket: Bucket, grid: Grid) -> int:
    """Video tokens of one sample."""
    return grid.tokens(*bucket.shape)


def ratio(aspect: str) -> float:
    """Width / height of "16:9". Raises UserError."""
    try:
        width, height = (float(part) for part in aspect.split(":"))
        if width > 0 and height > 0:
            return width / height
    except ValueError:
        pass
    raise UserError(f"aspects: {aspect!r} is no ratio; write width:height, for example 16:9")


def make_buckets(anchor: int, frames: Sequence[int], aspects: Sequence[str], grid: Grid) -> list[Bucket]:
    """Every duration x every aspect ratio, with about anchor x anchor pixels, sides rounded to whole tokens."""
    cell = grid.multiple
    if anchor < cell:
        raise UserError(f"anchor {anchor}: at least {cell} pixels")
    buckets = []
    for count in frames:
        for aspect in aspects:
            height = max(round(anchor / math.sqrt(ratio(aspect)) / cell), 1) * cell
            width = max(round(anchor**2 / height / cell), 1) * cell
            buckets.append(Bucket.parse(f"{count}x{height}x{width}", grid))
    return list(dict.fromkeys(buckets))


def nearest(buckets: Sequence[Bucket], frames: int, height: int, width: int) -> Bucket | None:
    """Bucket of a clip: the longest duration that it fills, then the nearest aspect ratio, then the larger picture.

    None for a clip that is shorter than all buckets.
    """
    filled = [bucket for bucket in buckets if bucket.frames <= frames]
    aspect = height / width

    def far(bucket: Bucket) -> tuple[int, float, int]:
        return -bucket.frames, abs(bucket.height / bucket.width / aspect - 1), -bucket.height

    return min(filled, key=far, default=None)


def batch_size(bucket: Bucket, grid: Grid, max_tokens: int, largest: int) -> int:
    """Samples of a micro-batch: what the budget of tokens holds, 1..largest."""
    return max(1, min(largest, max_tokens // tokens(bucket, grid)))


@dataclass(frozen=True)
class Group:
    """Buckets that together have a fixed share of the micro-batches: one anchor, or the images among videos."""

    buckets: tuple[Bucket, ...]
    share: float
    weights: tuple[float, ...] = ()  # of the buckets; equal where empty


@dataclass(frozen=True)
class Draw:
    """The samples of one micro-batch: `count` of a bucket, from position `start` of the bucket's order on."""

    bucket: Bucket
    start: int
    count: int


class BucketSampler:
    """Says for each step what its micro-batches hold. Every rank computes all of them and takes its own.

    Shares of groups are exact over time (never more than one micro-batch off), so a step with enough parts has every
    group in it; which part gets which, and the bucket within the group, come from (seed, step). `state` is the position
    in the data: steps must be planned in order, and continue from a saved state.
    """

    def __init__(self, groups: Sequence[Group], size_of: Callable[[Bucket], int], seed: int):
        if not groups or any(not group.buckets or group.share <= 0 for group in groups):
            raise UserError("buckets: every group needs buckets and a share above 0")
        for group in groups:
            if group.weights and (len(group.weights) != len(group.buckets) or min(group.weights) < 0):
                raise UserError(
                    f"buckets: {len(group.weights)} weights for {len(group.buckets)} buckets; none negative"
                )
        total = sum(group.share for group in groups)
        self.groups, self.size_of, self.seed = tuple(groups), size_of, seed
        self.shares = [group.share / total for group in groups]
        self.given = [0] * len(groups)  # micro-batches so far
        self.positions: dict[str, int] = {}  # samples so far, by bucket
        self.step = 0  # the next to plan

    def plan(self, step: int, parts: int) -> list[Draw]:
        """The micro-batches of a step. Raises ValueError when a step is planned out of order."""
        if step != self.step:
            raise ValueError(f"step {step} planned after {self.step - 1}; load the state saved with step {step}")
        self.step = step + 1
        rng = random.Random(f"buckets/{self.seed}/{step}")
        order = [self._next_group() for _ in range(parts)]
        rng.shuffle(order)
        return [self._draw(self.groups[index], rng) for index in order]

    def _next_group(self) -> int:
        """The group that is furthest behind its share."""
        count = sum(self.given) + 1
        behind = [share * count - given for share, given in zip(self.shares, self.given, strict=True)]
        index = behind.index(max(behind))
        self.given[index] += 1
        return index

    def _draw(self, group: Group, rng: random.Random) -> Draw:
        bucket = rng.choices(group.buckets, group.weights or None)[0]
        count, start = self.size_of(bucket), self.positions.get(str(bucket), 0)
        self.positions[str(bucket)] = start + count
        return Draw(bucket, start, count)

    def state(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"step": self.step, "given": list(self.given), "positions": dict(self.positions)}

    def load(self, state: dict[str, Any]) -> None:
        if len(state["given"]) != len(self.groups):
            raise UserError("buckets: the stage's anchors or image share have changed since the checkpoint")
        self.step, self.given, self.positions = state["step"], list(state["given"]), dict(state["positions"])
