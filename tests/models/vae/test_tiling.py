"""Tiles: lengths and coverage for any size, blending weights, parity of the stitched result with a local function."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hunyuan_video.models.vae.tiling import Tiling, blend


def stretch(x, time, space):
    """A local stand-in for the decoder: t -> (t - 1) * time + 1 frames, space times the pixels."""
    x = torch.cat((x[:, :, :1], x[:, :, 1:].repeat_interleave(time, 2)), 2)
    return x.repeat_interleave(space, 3).repeat_interleave(space, 4)


def shrink(x, time, space):
    """Inverse of stretch: a local stand-in for the encoder."""
    return x[:, :, ::time, ::space, ::space]


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    latents=st.tuples(st.integers(1, 19), st.integers(1, 13), st.integers(1, 13)),
    tile=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    unit=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 8])),
)
def test_tiles_of_a_local_function_change_nothing(latents, tile, unit):
    """With a function that looks at one latent only, every tile agrees in its overlap: tiled == plain, at any size."""
    z = torch.randn(1, 2, *latents, dtype=torch.float64)
    video = stretch(z, *unit)
    decoded = Tiling(*tile, (1, 1), unit).run(z, lambda x: stretch(x, *unit))
    torch.testing.assert_close(decoded, video, rtol=0, atol=1e-12)
    encoded = Tiling(*tile, unit, (1, 1)).run(video, lambda x: shrink(x, *unit))
    torch.testing.assert_close(encoded, z, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    latents=st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(1, 40)),
    tile=st.tuples(st.integers(2, 17), st.integers(2, 33)),
)
def test_tiles_never_exceed_their_size(latents, tile):
    calls = []

    def decode(x):
        calls.append(x.shape)
        return stretch(x, 4, 8)

    with torch.device("meta"):
        out = Tiling(*tile, (1, 1), (4, 8)).run(torch.empty(1, 1, *latents), decode)
    assert out.shape[2:] == ((latents[0] - 1) * 4 + 1, latents[1] * 8, latents[2] * 8)
    assert all(s[2] <= tile[0] + 1 and s[3] <= tile[1] and s[4] <= tile[1] for s in calls)


def test_no_wasted_trailing_tile():
    """12 k + 1 latents: the official loop decodes a last tile of one latent and throws it away."""
    lengths = []
    Tiling(16, 32, (1, 1), (4, 8)).run(
        torch.zeros(1, 1, 25, 1, 1), lambda x: lengths.append(x.shape[2]) or stretch(x, 4, 8)
    )
    assert lengths == [17, 13]


def test_blend_ramps_linearly():
    before, after = torch.zeros(1, 1, 6, 1, 1), torch.ones(1, 1, 5, 1, 1)
    assert blend(before, after, 4, dim=2).flatten().tolist() == [0, 0.25, 0.5, 0.75, 1]
    short = blend(before, after[:, :, :2], 4, dim=2)
    assert short.flatten().tolist() == [0, 0.5]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_blend_keeps_the_dtype(dtype):
    tensor = torch.randn(1, 2, 4, 4, 4, dtype=dtype)
    assert blend(tensor, tensor, 2, dim=3).dtype == dtype


def test_gradients_flow_through_tiles():
    z = torch.randn(1, 1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    tiling = Tiling(2, 2, (1, 1), (2, 2))
    assert torch.autograd.gradcheck(lambda x: tiling.run(x, lambda y: stretch(y.square(), 2, 2)).sum(), (z,))
