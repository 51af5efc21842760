"""Sliding-tile attention (arXiv 2502.04507) around the blocks: tokens in tiles, each of which sees a window.

Text attends to all and is attended by all. `hunyuan_ext.BlockMask` has the pattern; this chooses tiles and windows for
a grid, and puts the tokens in their order before the blocks and back after them.
"""

from __future__ import annotations

import itertools
from math import prod
from typing import Any

from torch import Tensor

from hunyuan_ext.block_mask import BlockMask, tile_order
from hunyuan_video.models.transformer.executor import Attention, Layer, Run

Grid3 = tuple[int, int, int]  # tokens, or tiles, along t, y, x
LARGEST = (6, 8, 8)  # tokens of a tile along t, y, x: the published tile
FEWEST = 3  # tiles along an axis that is cut: a window of 3 slides over more
SHARE = 0.55  # of the tiles along an axis that a window sees; 0.55^3 = 0.17 is the published mean density


def choose_tile(grid: Grid3, multiple: int = 1, first_apart: bool = False) -> Grid3 | None:
    """The largest tile within `LARGEST` that divides the grid into a multiple of so many tokens; None: there is none.

    first_apart: the tokens of the first frame must stay in front, so tiles are one frame thick.
    """
    sides = [
        [side for side in range(1, most + 1) if size % side == 0 and (size // side >= FEWEST or side == 1)]
        for size, most in zip(grid, (1 if first_apart else LARGEST[0], *LARGEST[1:]), strict=True)
    ]
    fitting = [tile for tile in itertools.product(*sides) if prod(tile) % multiple == 0]
    return max(fitting, key=prod, default=None)  # type: ignore[return-value]


def window_of(grid: Grid3, tile: Grid3) -> Grid3:
    """Tiles along each axis that one sees: odd, about `SHARE` of them, 3 at least."""
    t, y, x = (max(2 * int(SHARE / 2 * (size // side)) + 1, 3) for size, side in zip(grid, tile, strict=True))
    return t, y, x


class SlidingTiles(Layer):
    """Attention within windows of tiles; `dense` switches the windows off, for the steps that need all."""

    place = "tiles"

    def __init__(self, grid: Grid3, tile: Grid3, window: Grid3):
        self.grid, self.tile, self.window = grid, tile, window
        self.dense = False
        self.order = tile_order(grid, tile)  # [S]
        self.back = self.order.argsort()
        self._masks: dict[int, BlockMask] = {}  # by length of the text

    def all_blocks(  # [B, S, D] -> [B, S, D]
        self, run: Run, img: list[Tensor], txt: Tensor, vec: Tensor | None, rope: tuple[Tensor, Tensor], *args: Any,
        **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        device = img[0].device
        if self.order.device != device:
            self.order, self.back = self.order.to(device), self.back.to(device)
        tiled = [img.pop()[:, self.order]]
        out = run(tiled, txt, vec, (rope[0][self.order], rope[1][self.order]), *args, **kwargs)
        return out[:, self.back]

    def attention(self, attention: Attention) -> Attention:
        def windowed(q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:  # [B, S, H, D] each
            if self.dense:
                return attention(q, k, v, **settings)
            return attention(q, k, v, block_mask=self.mask(settings["text_len"], q), **settings)

        return windowed

    def mask(self, text_len: int, like: Tensor) -> BlockMask:
        """The pattern for a text of so many tokens, where its kernel reads it."""
        if text_len not in self._masks:
            mask = BlockMask.sliding_tile(self.grid, self.tile, self.window, text_len)
            self._masks[text_len] = mask.to(like.device)
        return self._masks[text_len]
