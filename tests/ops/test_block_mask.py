"""BlockMask: the compressed rows and the dense mask say the same, and the window is the paper's."""

import pytest
import torch

from hunyuan_ext import BlockMask, tile_order


def test_round_trip_between_tiles_and_rows():
    allowed = torch.rand(5, 7) < 0.4
    mask = BlockMask.from_tiles(allowed, query_tile=3, key_tile=2)
    assert mask.row_starts.dtype == mask.key_blocks.dtype == torch.int32
    assert mask.row_starts.tolist() == [0, *allowed.sum(1).cumsum(0).tolist()]
    dense = mask.dense(14, 13)  # both last tiles cut short
    expected = allowed.repeat_interleave(3, 0).repeat_interleave(2, 1)[:14, :13]
    assert torch.equal(dense, expected)
    assert mask.density == pytest.approx(allowed.sum().item() / (5 * (int(mask.key_blocks.max()) + 1)))


def test_a_window_moves_inwards_at_the_border():
    mask = BlockMask.sliding_tile((5, 1, 1), (1, 1, 1), (3, 1, 1))
    assert mask.dense(5, 5).int().tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1],
    ]


def test_sliding_tile_equals_its_definition():
    grid, tile, window, text = (2, 4, 6), (1, 2, 2), (1, 1, 3), 5
    mask = BlockMask.sliding_tile(grid, tile, window, text)
    dense = mask.dense(48 + text, 48 + text)
    order = tile_order(grid, tile)
    tiles = torch.stack([order // 24 // tile[0], order // 6 % 4 // tile[1], order % 6 // tile[2]], 1)
    counts = torch.tensor([2, 2, 3])
    half = torch.tensor(window) // 2
    center = tiles.clamp(half, counts - 1 - half)
    near = ((tiles[None] - center[:, None]).abs() <= half).all(-1)
    assert torch.equal(dense[:48, :48], near)
    assert dense[48:].all() and dense[:, 48:].all()
    assert dense[:48, :48].sum(1).unique().tolist() == [1 * 1 * 3 * 4]


def test_a_wide_window_is_full_attention():
    mask = BlockMask.sliding_tile((2, 2, 2), (1, 1, 1), (5, 5, 5))
    assert mask.dense(8, 8).all() and mask.density == 1


def test_tile_order_is_a_permutation_that_groups_tiles():
    order = tile_order((2, 4, 4), (2, 2, 2))
    assert order.sort().values.tolist() == list(range(32))
    assert order[:8].tolist() == [0, 1, 4, 5, 16, 17, 20, 21]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BlockMask.sliding_tile((2, 4, 5), (1, 2, 2), (1, 1, 1)), r"tile: \(1, 2, 2\) does not divide"),
        (lambda: tile_order((2, 4, 4), (0, 2, 2)), "tile: .*does not divide"),
        (lambda: BlockMask.sliding_tile((2, 4, 4), (1, 2, 2), (1, 2, 1)), "window: odd numbers"),
        (lambda: BlockMask.sliding_tile((2, 4, 4), (1, 2, 2), (1, 1, 1), -1), "text_len: must not be negative"),
        (lambda: BlockMask.sliding_tile((1, 2, 2), (1, 1, 1), (1, 1, 1)).dense(5, 4), "block_mask: covers 4 queries"),
        (lambda: BlockMask.sliding_tile((1, 2, 2), (1, 1, 1), (1, 1, 1)).dense(4, 3), "block_mask: key tile 3"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
