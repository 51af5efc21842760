"""The ranks that make one video together: they share its tokens, the halves of classifier-free guidance, its weights.

All ranks go through the same run with the same values; only the first one reads prompts, writes and reports. What it
decides or finds wrong reaches the others with `from_first`. The models know nothing of it: a run gets a transformer
whose executor has a layer more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.distributed.ranks import Ranks, join_ranks, sequence_group
from hunyuan_video.distributed.ring import RingShare, heads_degree
from hunyuan_video.distributed.ulysses import TokenShare, gather
from hunyuan_video.errors import UserError

Value = TypeVar("Value")
LOST = ("connection", "gloo", "nccl", "peer", "socket", "timed out", "store")  # in what torch raises


class Team:
    """All ranks of a job, and their groups. Every rank must make one, at the same time.

    branches: halves of the ranks take a half of classifier-free guidance each, where their number is even; None: on
    GPUs. (On CPUs, where results have the bits of one rank, all ranks share the tokens of both: a batch of one sample
    may be added up in another order than one of two.) ring: keys go around where padded heads would waste much
    (ring.py); None: on GPUs likewise.
    """

    def __init__(self, ranks: Ranks, device: str = "cpu", branches: bool | None = None, ring: bool | None = None):
        self.ranks = ranks
        self.ring = device == "cuda" if ring is None else ring
        self._rings: dict[tuple[int, int], tuple[Any, Any]] = {}
        count = ranks.count
        self.everyone = sequence_group(ranks.rank, count, count)
        self.weights = sequence_group(ranks.rank, count, count)  # of its own: another thread works with it
        self.half: Any = None
        self.pair: Any = None
        if count % 2 == 0 and (device == "cuda" if branches is None else branches):
            size = count // 2
            self.half = dist.new_group([ranks.rank]) if size == 1 else sequence_group(ranks.rank, count, size)
            pairs = [dist.new_group([first, first + size]) for first in range(size)]
            self.pair = pairs[ranks.rank % size]

    @property
    def first(self) -> bool:
        """True on the rank that writes and reports."""
        return self.ranks.first

    def from_first(self, function: Callable[[], Value]) -> Value:
        """function() of the first rank, on every rank; where it raises, every rank does."""
        answer: tuple[Any, BaseException | None] = None, None
        if self.first:
            try:
                answer = function(), None
            except (UserError, OSError, ValueError) as error:
                answer = None, error
        value, failure = self.ranks.agree(answer)
        if failure is not None:
            raise failure
        return value

    def check_same(self, values: Mapping[str, Any], remedy: str) -> None:
        """UserError on every rank where one of them has another value than the first. remedy: end of the message."""
        every = self.ranks.collect([dict(values)])
        for rank, other in enumerate(every):
            for name, value in every[0].items():
                if other.get(name) != value:
                    raise UserError(f"rank {rank} has {name} {other.get(name)!r}, rank 0 has {value!r}; {remedy}")

    def sharing(self, transformer: Any, guided: bool) -> tuple[Any, Share | None]:
        """A transformer with the same weights whose blocks work on this rank's tokens; the share of its batches.

        guided: its batches are the two halves of classifier-free guidance. UserError for another kind of transformer.
        """
        if not hasattr(transformer, "executor"):
            raise UserError(
                f"several ranks work on the blocks of this package's transformer, not of a {type(transformer).__name__}"
            )
        halves = guided and self.half is not None
        shared = copy.copy(transformer)
        group = self.half if halves else self.everyone
        if dist.get_world_size(group) > 1:
            shared.executor = transformer.executor.adding(self._tokens(group, transformer.config.num_heads))
        return shared, Share(self.pair) if halves else None

    def _tokens(self, group: Any, heads: int) -> TokenShare:
        """The layer that shares tokens among the ranks of a group; every rank of the team must call it."""
        size = dist.get_world_size(group)
        degree = heads_degree(heads, size, exact=not self.ring)
        if degree == size:
            return TokenShare(group)
        if (size, degree) not in self._rings:
            self._rings[size, degree] = self._ring_groups(size, degree)
        return RingShare(group, *self._rings[size, degree])

    def _ring_groups(self, size: int, degree: int) -> tuple[Any, Any]:
        """This rank's groups within consecutive `size` ranks: those that trade heads, those that pass on keys."""
        count, rank = self.ranks.count, self.ranks.rank
        trading = sequence_group(rank, count, degree)
        passing = None
        for first in (start + place for start in range(0, count, size) for place in range(degree)):
            members = list(range(first, first - first % degree + size, degree))
            group = dist.new_group(members)
            passing = group if rank in members else passing
        return trading, passing


class Share:
    """One of the two halves of a doubled batch: which rows are computed here, and all of them together."""

    def __init__(self, pair: Any):  # process group of two ranks
        self.pair, self.index = pair, dist.get_rank(pair)

    def rows(self, count: int) -> slice:
        """Rows of a batch of `count` that are computed here."""
        return slice(self.index * (count // 2), (self.index + 1) * (count // 2))

    def joined(self, part: Tensor) -> Tensor:  # [B, ...] -> [2 B, ...]
        """The rows of both ranks."""
        return gather(part, 0, self.pair)


def join_team(device: str, branches: bool | None = None) -> Team | None:
    """The team of all ranks that torchrun started; None where it started one. UserError for a rank without a GPU."""
    ranks = join_ranks(device, ParallelConfig())
    return None if ranks.count == 1 else Team(ranks, device, branches)


def is_loss(error: BaseException) -> bool:
    """True for what torch raises when another rank has gone."""
    if isinstance(error, UserError) or not isinstance(error, RuntimeError | OSError):
        return False
    lost = isinstance(error, torch.distributed.DistError)
    return lost or any(word in str(error).lower() for word in LOST)
