"""Pixels to latents and tokens, for the released compression and for others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hunyuan_video.models import TransformerConfig, VAEConfig
from hunyuan_video.models.grid import Grid

POWERS = st.sampled_from((1, 2, 4, 8, 16))


@given(temporal=POWERS, spatial=POWERS, patch=st.sampled_from((1, 2)), k=st.integers(0, 20), rows=st.integers(1, 20))
def test_what_fits_is_whole_latents_and_tokens(temporal, spatial, patch, k, rows):
    grid = Grid(4, temporal, spatial, patch)
    frames, height, width = k * temporal + 1, rows * spatial * patch, spatial * patch
    assert grid.fits(frames, height, width)
    channels, t, h, w = grid.latent_shape(frames, height, width)
    assert (channels, (t - 1) * temporal + 1, h * spatial, w * spatial) == (4, frames, height, width)
    assert grid.tokens(frames, height, width) == t * (h // patch) * (w // patch) == (k + 1) * rows
    wrong = [(frames, height, width + 1), (frames, 0, width), (0, height, width), (frames, -height, width)]
    wrong += [(frames + 1, height, width)] if temporal > 1 else []
    assert grid.multiple == 1 or not any(grid.fits(*sizes) for sizes in wrong)


def test_the_released_models_and_others():
    assert Grid.of() == Grid.of(VAEConfig(), TransformerConfig()) == Grid(16, 4, 8, 2)
    levels = {"block_out_channels": (32,) * 5, "latent_channels": 32}
    vae = VAEConfig(**levels, spatial_compression=16, temporal_compression=8)
    transformer = TransformerConfig(in_channels=32, out_channels=32, patch_size=(1, 1, 1))
    assert Grid.of(vae, transformer) == Grid(32, 8, 16, 1) and Grid.of(vae) == Grid(32, 8, 16, 2)
    assert Grid.of(vae).rule == "frames must be 8k + 1, height and width multiples of 32"
