"""Same random weights in diffusers' AutoencoderKLHunyuanVideo and in ours: same numbers, plain and tiled."""

from __future__ import annotations

import pytest
import torch

from hunyuan_video.models import CausalVAE, VAEConfig

CONFIG = VAEConfig(
    latent_channels=4,
    block_out_channels=(8, 16, 16, 16),
    layers_per_block=1,
    norm_groups=4,
    tile_size=32,
    tile_frames=16,
)


def pair():
    peer_class = pytest.importorskip("diffusers").AutoencoderKLHunyuanVideo
    ours = CausalVAE(CONFIG).eval()
    peer = peer_class.from_config(CONFIG.to_dict("diffusers")).eval()
    peer.load_state_dict(ours.state_dict(), strict=True)
    peer.use_framewise_encoding = peer.use_framewise_decoding = False  # its default cuts frames even untiled
    return ours, peer


DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def check(ours, peer, video, mode, dtype, tolerance):
    """Encode and decode both; the decoders get equal latents, so that rounding of the encoders does not add up."""
    ours, peer, video = ours.to(dtype), peer.to(dtype), video.to(dtype)
    posterior, theirs = ours.encode(video, mode=mode), peer.encode(video).latent_dist
    torch.testing.assert_close(posterior.mean, theirs.mean, rtol=0, atol=tolerance)
    torch.testing.assert_close(posterior.logvar, theirs.logvar, rtol=0, atol=tolerance)
    latents = torch.randn(posterior.mean.shape, dtype=dtype)
    got = ours.decode(latents, mode=mode)
    torch.testing.assert_close(got, peer.decode(latents).sample, rtol=0, atol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("size", [(1, 3, 9, 32, 48), (2, 3, 1, 24, 16)])
def test_diffusers_plain(size, dtype, tolerance):
    check(*pair(), torch.rand(size) * 2 - 1, "plain", dtype, tolerance)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_diffusers_tiled(dtype, tolerance):
    ours, peer = pair()
    peer.use_framewise_encoding = peer.use_framewise_decoding = True
    peer.enable_tiling(32, 32, 16, 24, 24, 12)
    video = torch.rand(1, 3, 29, 40, 56) * 2 - 1
    assert (ours.encode(video, mode="tiled").mean - ours.encode(video).mean).abs().max() > 1e-2  # tiling does happen
    check(ours, peer, video, "tiled", dtype, tolerance)
