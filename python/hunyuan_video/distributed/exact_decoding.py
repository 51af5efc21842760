"""Exact decoding on several ranks: every layer's frames are dealt out, with GroupNorm's statistics over all of them.

The slabs of a layer are those of one process, and each rank computes some that follow each other. What they read of
other ranks' frames comes before the layer; sums over channels are gathered after it, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext.conv.slabs import ChannelMoments, norm_slab
from hunyuan_video.distributed.ulysses import gather
from hunyuan_video.models.interruption import interruption_point
from hunyuan_video.models.vae.blocks import FrameCausalAttention
from hunyuan_video.models.vae.exact import Planner, walk_decoder, within
from hunyuan_video.models.vae.slabs import ConvPlan
from hunyuan_video.models.vae.store import PartStore, Shape, Store, TensorStore
from hunyuan_video.models.vae.streaming import Activation, Reach, Runner, bounds_of

if TYPE_CHECKING:
    from hunyuan_video.models import CausalVAE

Span = tuple[int, int]  # frames [first, last)
FIRST = 0  # rank of the group that gets the video


@torch.no_grad()
def decode_frames(
    vae: CausalVAE,
    latents: Tensor,  # [1, C, T, h, w], the same on every rank
    memory_budget: int | None,
    group: Any,
) -> Tensor | None:  # [1, 3, F, H, W] on the first rank, else None
    """vae.decode(latents, mode="exact") with frames computed by all ranks of a group."""
    x = vae.post_quant_conv(latents)
    runner = SharedRunner(group, *within(walk_decoder, vae.decoder, x, memory_budget))
    plan = Planner(runner.dtype)
    walk_decoder(plan, vae.decoder, (*x.shape[2:], x.shape[1]))
    runner.work = plan.work
    whole = [(0, x.shape[2])] * runner.ranks  # every rank has all latents
    source = SharedStore(TensorStore(x[0].permute(1, 2, 3, 0), x.device), whole, runner.rank, x.shape[2])
    made = walk_decoder(runner, vae.decoder, Activation(source, ChannelMoments()))
    frames, rows = made.shape[:2]
    video = runner.fetched(made.store, [(0, frames) if rank == FIRST else (0, 0) for rank in range(runner.ranks)])
    return video.read(0, frames, 0, rows).permute(3, 0, 1, 2)[None] if runner.rank == FIRST else None


class SharedStore(PartStore):
    """An activation of which each rank has some frames. spans: which, rank by rank."""

    def __init__(self, inner: Store, spans: list[Span], rank: int, frames: int):
        super().__init__(inner, spans[rank][0], frames)
        self.spans = spans


class SharedMoments(ChannelMoments):
    """Moments around one center, that of the rank which has the first slab; whole after `gather`."""

    def __init__(self, group: Any, first: int, channels: int, device: torch.device):
        self.group, self.first = group, first
        self.totals = torch.zeros((3, channels), dtype=torch.float64, device=device)
        self.count = 0
        self.centered = False

    def add(self, slab: Tensor) -> None:  # [t, h, W, C]
        self._center(slab)
        super().add(slab)

    def _center(self, slab: Tensor | None) -> None:
        """Sends the center to the other ranks, or gets it."""
        if self.centered:
            return
        if dist.get_rank(self.group) == self.first:
            assert slab is not None  # it has the first slab
            own = ChannelMoments()
            own.add(slab)
            self.totals[0] = own.totals[0]
        dist.broadcast(self.totals, src=dist.get_global_rank(self.group, self.first), group=self.group)
        self.centered, self.count = True, 1  # not 0, which would take another center

    def gather(self) -> None:
        """The sums of all ranks, on each; all call it."""
        self._center(None)
        rows = torch.cat((torch.full_like(self.totals[:1], self.count - 1), self.totals))
        every = gather(rows[None], 0, self.group)  # [ranks, 4, C]
        self.count = int(every[:, 0, 0].sum())
        self.totals[1:] = sum(every[1:, 2:], every[0, 2:])


class SharedRunner(Runner):
    """A runner that makes some frames of each layer, and has the others make the rest."""

    def __init__(self, group: Any, device: torch.device, dtype: torch.dtype, limit: int, room: int):
        super().__init__(device, dtype, limit, room)
        self.group, self.rank, self.ranks = group, dist.get_rank(group), dist.get_world_size(group)

    def spans(self, bounds: Sequence[int]) -> list[Span]:
        """Frames of every rank: about as many slabs for each."""
        slabs = len(bounds) - 1
        cuts = [bounds[slabs * rank // self.ranks] for rank in range(self.ranks + 1)]
        return list(zip(cuts[:-1], cuts[1:], strict=True))

    def _span(self, bounds: Sequence[int]) -> Span:
        return self.spans(bounds)[self.rank]

    def _near(self, x: Activation, bounds: Sequence[int], reach: Reach = lambda t0, t1: (t0, t1)) -> Store:
        needs = [reach(*span) if span[0] < span[1] else (0, 0) for span in self.spans(bounds)]
        return self.fetched(x.store, needs)

    def fetched(self, store: Store, needs: list[Span]) -> Store:
        """A store with the frames that this rank needs; needs: of every rank, which all call it."""
        assert isinstance(store, SharedStore)
        spans, need, rows = store.spans, needs[self.rank], store.shape[1]
        moves, parts = [], []
        for rank in range(self.ranks):
            there = dist.get_global_rank(self.group, rank)
            start, stop = _lacking(spans, needs, owner=self.rank, reader=rank)
            if start < stop:
                moves.append(dist.P2POp(dist.isend, store.read(start, stop, 0, rows).contiguous(), there, self.group))
            start, stop = _lacking(spans, needs, owner=rank, reader=self.rank)
            if start < stop:
                frames = torch.empty((stop - start, *store.shape[1:]), dtype=self.dtype, device=self.device)
                parts.append((start, frames))
                moves.append(dist.P2POp(dist.irecv, frames, there, self.group))
        for work in dist.batch_isend_irecv(moves) if moves else ():
            work.wait()
        if _covers(spans[self.rank], need):
            return store
        near = PartStore(self._new_store((need[1] - need[0], *store.shape[1:])), need[0], store.shape[0])
        start, stop = max(spans[self.rank][0], need[0]), min(spans[self.rank][1], need[1])
        if start < stop:
            near.write(start, 0, store.read(start, stop, 0, rows))
        for start, frames in parts:
            near.write(start, 0, frames)
        return near

    def _output(self, shape: Shape, bounds: Sequence[int], target: Store | None) -> Activation:
        spans = self.spans(bounds)
        first, last = spans[self.rank]
        if not (isinstance(target, SharedStore) and target.spans == spans):
            target = SharedStore(self._new_store((last - first, *shape[1:])), spans, self.rank, shape[0])
        begins = next(rank for rank, span in enumerate(spans) if span[0] < span[1])
        return Activation(target, SharedMoments(self.group, begins, shape[-1], self.device))

    def _done(self, plan: ConvPlan, out: Activation) -> None:
        super()._done(plan, out)
        _gathered(out.moments)

    def attention(self, source: Activation, attention: FrameCausalAttention) -> Activation:
        """Frame by frame; keys and values of all frames are gathered before."""
        frames, rows, columns, channels = source.shape
        bounds, tokens = bounds_of(frames, 1), rows * columns
        affine = source.moments.affine(attention.group_norm)
        near = self._near(source, bounds)
        first, last = self._span(bounds)
        out = self._output(source.shape, bounds, None)
        most = max(stop - start for start, stop in self.spans(bounds))
        pairs = torch.zeros((2, most, tokens, channels), dtype=self.dtype, device=self.device)
        queries = []
        for t in range(first, last):
            x = near.read(t, t + 1, 0, rows).contiguous()
            normed = norm_slab(x, affine, torch.empty_like(x, dtype=self.dtype), silu=False).view(tokens, channels)
            queries.append(attention.to_q(normed))
            pairs[0, t - first], pairs[1, t - first] = attention.to_k(normed), attention.to_v(normed)
        every = gather(pairs[None], 0, self.group)
        held = [part[:, : stop - start] for part, (start, stop) in zip(every, self.spans(bounds), strict=True)]
        keys, values = torch.cat(held, dim=1).flatten(1, 2)
        for t in range(first, last):
            interruption_point()
            x, seen = near.read(t, t + 1, 0, rows).contiguous(), (t + 1) * tokens
            mixed = F.scaled_dot_product_attention(
                queries[t - first][None, None], keys[None, None, :seen], values[None, None, :seen]
            )
            slab = x + attention.to_out[0](mixed[0, 0]).view(x.shape)
            out.moments.add(slab)
            out.store.write(t, 0, slab)
        _gathered(out.moments)
        return out


def _gathered(moments: ChannelMoments) -> None:
    assert isinstance(moments, SharedMoments)
    moments.gather()


def _covers(span: Span, need: Span) -> bool:
    return need[0] >= need[1] or (span[0] <= need[0] and need[1] <= span[1])


def _lacking(spans: list[Span], needs: list[Span], owner: int, reader: int) -> Span:
    """Frames that a rank sends to another."""
    if owner == reader or _covers(spans[reader], needs[reader]):
        return 0, 0
    return max(spans[owner][0], needs[reader][0]), min(spans[owner][1], needs[reader][1])
