"""Block-sparse attention patterns: which key tiles each tile of queries attends to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from hunyuan_ext.core.types import Triple


@dataclass(frozen=True)
class BlockMask:
    """A list of key tiles for every query tile, in compressed sparse rows: what a kernel walks.

    Query tile i is the tokens [i * query_tile, (i + 1) * query_tile), the last one shorter; key tiles likewise. Its
    key tiles are key_blocks[row_starts[i] : row_starts[i + 1]], ascending.
    """

    row_starts: Tensor  # [query tiles + 1] int32, from 0 to len(key_blocks)
    key_blocks: Tensor  # [pairs] int32
    query_tile: int
    key_tile: int

    @classmethod
    def of(
        cls, row_starts: Tensor | None, key_blocks: Tensor | None, query_tile: int, key_tile: int
    ) -> BlockMask | None:
        """From the arguments of a library op, where dense attention has no lists."""
        return None if row_starts is None or key_blocks is None else cls(row_starts, key_blocks, query_tile, key_tile)

    @classmethod
    def from_tiles(cls, allowed: Tensor, query_tile: int, key_tile: int) -> BlockMask:  # [query tiles, key tiles] bool
        """From a small matrix that says which tile attends to which."""
        counts = allowed.sum(1, dtype=torch.int32)
        row_starts = torch.cat((counts.new_zeros(1), counts.cumsum(0, dtype=torch.int32)))
        return cls(row_starts, allowed.nonzero()[:, 1].to(torch.int32), query_tile, key_tile)

    @classmethod
    def sliding_tile(cls, grid: Triple, tile: Triple, window: Triple, text_len: int = 0) -> BlockMask:
        """Sliding tile attention (arXiv 2502.04507): a tile of video attends to the tiles of a window around it.

        grid: video tokens (T, h, w); tile: tokens of a tile along each axis, dividing grid; window: tiles along each
        axis, odd, moved inwards at the border so that every tile sees equally many. Text tokens, after the video,
        attend to everything and everything attends to them. Tokens must be in `tile_order`.
        """
        tiles = _tile_counts(grid, tile)
        if any(size < 1 or size % 2 == 0 for size in window):
            raise ValueError(f"window: odd numbers of tiles are needed, got {window}")
        if text_len < 0:
            raise ValueError(f"text_len: must not be negative, got {text_len}")
        size = prod(tile)
        seen = [_window_overlap(count, width) for count, width in zip(tiles, window, strict=True)]
        video = torch.einsum("ax,by,cz->abcxyz", *(axis.int() for axis in seen)).bool()
        video = video.reshape(prod(tiles), prod(tiles))
        text_tiles = -(-text_len // size)
        allowed = torch.ones(prod(tiles) + text_tiles, prod(tiles) + text_tiles, dtype=torch.bool, device="cpu")
        allowed[: prod(tiles), : prod(tiles)] = video
        return cls.from_tiles(allowed, size, size)

    def to(self, device: torch.device | str) -> BlockMask:
        """The same list on a device, where its attention kernel reads it; itself when it is there already."""
        if self.row_starts.device == torch.device(device):
            return self
        return replace(self, row_starts=self.row_starts.to(device), key_blocks=self.key_blocks.to(device))

    @property
    def density(self) -> float:
        """Share of the tile pairs that is computed; counts a short last tile as a whole one."""
        query_tiles = len(self.row_starts) - 1
        key_tiles = int(self.key_blocks.max()) + 1 if len(self.key_blocks) else 1
        return len(self.key_blocks) / (query_tiles * key_tiles)

    def check(self, queries: int, keys: int) -> None:
        """Raises ValueError unless the list covers all queries and names only tiles that have keys."""
        rows, columns = len(self.row_starts) - 1, -(-keys // self.key_tile)
        if queries > rows * self.query_tile:
            raise ValueError(f"block_mask: covers {rows * self.query_tile} queries, {queries} are given")
        if len(self.key_blocks) and int(self.key_blocks.max()) >= columns:
            last = int(self.key_blocks.max())
            raise ValueError(f"block_mask: key tile {last} of {self.key_tile} is past the {keys} keys")

    def dense(self, queries: int, keys: int) -> Tensor:  # [queries, keys] bool
        """The same pattern token by token, for the reference and for devices without a sparse kernel."""
        self.check(queries, keys)
        tiles = torch.zeros(len(self.row_starts) - 1, -(-keys // self.key_tile), dtype=torch.bool, device="cpu")
        counts = self.row_starts.diff().long()
        rows = torch.repeat_interleave(torch.arange(len(counts), device="cpu"), counts.cpu())
        columns = self.key_blocks.long().cpu()
        tiles[rows, columns] = True
        tokens = tiles.repeat_interleave(self.query_tile, 0)[:queries]
        return tokens.repeat_interleave(self.key_tile, 1)[:, :keys]


def tile_order(grid: Triple, tile: Triple) -> Tensor:  # [T * h * w] int64
    """Raster index of each token when tiles follow each other: x[:, tile_order] is what `sliding_tile` expects."""
    t, h, w = _tile_counts(grid, tile)
    raster = torch.arange(prod(grid), device="cpu").view(t, tile[0], h, tile[1], w, tile[2])
    return raster.permute(0, 2, 4, 1, 3, 5).flatten()


def _tile_counts(grid: Triple, tile: Triple) -> Triple:
    if any(size < 1 for size in tile) or any(total % size for total, size in zip(grid, tile, strict=True)):
        raise ValueError(f"tile: {tile} does not divide the grid {grid}; crop or choose another tile")
    return grid[0] // tile[0], grid[1] // tile[1], grid[2] // tile[2]


def _window_overlap(count: int, width: int) -> Tensor:  # [count, count] bool: tile i sees tile j along one axis
    width = min(width, count)
    first = (torch.arange(count, device="cpu") - width // 2).clamp(0, count - width)
    index = torch.arange(count, device="cpu")
    return (index >= first[:, None]) & (index < first[:, None] + width)
