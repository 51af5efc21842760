"""Sliding tiles around a model, against a mask written token by token in raster order."""

from __future__ import annotations

import copy
import itertools
from math import prod

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny_models import TINY, randomized
from hypothesis import given
from hypothesis import strategies as st

from hunyuan_ext import reference
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.transformer.executor import Layer
from hunyuan_video.models.transformer.sliding_tiles import LARGEST, SlidingTiles, choose_tile, window_of


class Masked(Layer):
    """Attention of all tokens in raster order, where the video's tokens see windows of tiles."""

    place = "tiles"

    def __init__(self, grid, tile, window):
        places = list(itertools.product(*map(range, grid)))
        tiles = [size // side for size, side in zip(grid, tile, strict=True)]
        self.allowed = torch.zeros(len(places), len(places), dtype=torch.bool)
        for (i, a), (j, b) in itertools.product(enumerate(places), repeat=2):
            near = []
            for x, y, side, count, width in zip(a, b, tile, tiles, window, strict=True):
                first = min(max(x // side - width // 2, 0), max(count - width, 0))
                near.append(first <= y // side < first + width)
            self.allowed[i, j] = all(near)

    def attention(self, _):
        def masked(q, k, v, *, rope, q_norm, k_norm, text_norms=(None, None), text_len, kv_len, precision):
            q, k = (
                reference.qk_norm_rope(x, rope, norm, text_norm, text_len, 1e-6).transpose(1, 2)
                for x, norm, text_norm in ((q, q_norm, text_norms[0]), (k, k_norm, text_norms[1]))
            )
            allowed = F.pad(self.allowed, (0, text_len, 0, text_len), value=True)
            return F.scaled_dot_product_attention(q, k, v.transpose(1, 2), allowed).transpose(1, 2)

        return masked


def velocity(model, layer, grid):
    twin = copy.copy(model)
    twin.executor = model.executor.adding(layer)
    torch.manual_seed(7)
    latents = torch.randn(1, 4, grid[0], 2 * grid[1], 2 * grid[2])
    text, pooled, guidance = torch.randn(1, 3, 24), torch.randn(1, 20), torch.full((1,), 6000.0)
    with torch.no_grad():
        return twin(latents, torch.full((1,), 700.0), text=text, pooled_text=pooled, guidance=guidance)


@pytest.mark.parametrize(
    ("grid", "tile", "window"),
    [((5, 4, 4), (1, 1, 1), (3, 3, 3)), ((3, 6, 6), (1, 2, 2), (1, 3, 1)), ((4, 3, 6), (2, 1, 2), (1, 1, 3))],
)
def test_windows_are_those_of_a_mask(grid, tile, window):
    torch.manual_seed(1)
    model = randomized(HunyuanVideoTransformer(TINY))
    layer = SlidingTiles(grid, tile, window)
    sparse, wanted = velocity(model, layer, grid), velocity(model, Masked(grid, tile, window), grid)
    assert (sparse - wanted).abs().max() <= 2e-5 * wanted.abs().max()
    layer.dense = True
    dense, exact = velocity(model, layer, grid), velocity(model, Unchanged(), grid)
    assert (dense - exact).abs().max() <= 2e-5 * exact.abs().max()
    assert (sparse - exact).abs().max() > 1e-3 * exact.abs().max()


class Unchanged(Layer):
    place = "tiles"


@given(st.tuples(st.integers(1, 60), st.integers(1, 90), st.integers(1, 90)), st.sampled_from([1, 128]), st.booleans())
def test_tiles_divide_their_grid(grid, multiple, apart):
    tile = choose_tile(grid, multiple, apart)
    if tile is None:
        assert multiple == 128
        return
    assert prod(tile) % multiple == 0 and (tile[0] == 1 or not apart)
    for size, side, most, width in zip(grid, tile, LARGEST, window_of(grid, tile), strict=True):
        assert size % side == 0 and side <= most and (side == 1 or size // side >= 3) and width % 2 == 1


def test_the_published_size_has_the_published_tile():
    """117 frames of 768 x 1280: 5 x 6 x 10 tiles; 129 of 720 x 1280 have none of 128 tokens."""
    assert choose_tile((30, 48, 80), 128) == (6, 8, 8) and window_of((30, 48, 80), (6, 8, 8)) == (3, 3, 5)
    assert choose_tile((33, 45, 80), 128) is None and choose_tile((33, 45, 80)) == (3, 5, 8)
