"""Decoding on several ranks: tiles are dealt out in rounds, and the first rank blends them as one process would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from hunyuan_video.models import CausalVAE

FIRST = 0  # rank of the group that gets the video


def decode_tiles(
    vae: CausalVAE,
    latents: Tensor,  # [B, C, T, h, w], the same on every rank
    group: Any,
) -> Tensor | None:  # [B, 3, F, H, W] on the first rank, else None
    """vae.decode(latents, mode="tiled") with the tiles computed by all ranks of a group, bit for bit."""
    tiling = vae.decode_tiling()
    rounds = _Rounds(vae, list(tiling.patches(latents)), group)
    if dist.get_rank(group) == FIRST:
        return tiling.run(latents, rounds.next)
    for patch in rounds.patches:
        rounds.next(patch)
    return None


class _Rounds:
    """A round is a tile for each rank; its tiles go to the first rank, which asks for them one after the other."""

    def __init__(self, vae: CausalVAE, patches: list[Tensor], group: Any):
        self.vae, self.patches, self.group = vae, patches, group
        self.rank, self.count = dist.get_rank(group), dist.get_world_size(group)
        self.number = 0  # tiles that were asked for
        self.made: list[Tensor] = []  # of this round, in order; on the first rank only

    def next(self, patch: Tensor) -> Tensor:  # [B, C, t, h, w] -> [B, 3, t', h', w'], on the first rank
        """The next tile. patch: the one of `patches` whose turn it is."""
        if self.number % self.count == 0:
            self._begin(self.patches[self.number : self.number + self.count])
        self.number += 1
        return self.made.pop(0) if self.rank == FIRST else patch

    def _begin(self, patches: list[Tensor]) -> None:
        """Computes this rank's tile of a round, and brings all to the first rank."""
        if self.rank >= len(patches):
            return
        tile = self.vae.decode(patches[self.rank])
        if self.rank != FIRST:
            dist.send(tile.contiguous(), dst=dist.get_global_rank(self.group, FIRST), group=self.group)
            return
        self.made = [tile]
        for rank, patch in enumerate(patches[1:], 1):
            other = tile.new_empty(self._shape(patch))
            dist.recv(other, src=dist.get_global_rank(self.group, rank), group=self.group)
            self.made.append(other)

    def _shape(self, patch: Tensor) -> torch.Size:
        """Shape of a decoded tile."""
        config, (batch, _, t, h, w) = self.vae.config, patch.shape
        pixels = config.spatial_compression
        return torch.Size(
            (batch, config.out_channels, (t - 1) * config.temporal_compression + 1, pixels * h, pixels * w)
        )
