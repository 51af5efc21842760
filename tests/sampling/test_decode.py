"""How latents become frames: which way the VAE decodes, and what its failures say."""

import pytest
import torch

from hunyuan_video import UserError
from hunyuan_video.models import CausalVAE, VAEConfig
from hunyuan_video.models.vae import exact
from hunyuan_video.sampling.decode import decode_latents

CONFIG = VAEConfig(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_groups=4, tile_size=32, tile_frames=16)


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return CausalVAE(CONFIG).eval()


@pytest.mark.parametrize(
    ("shape", "equals"),
    [((4, 4, 4), "plain"), ((4, 4, 5), "exact"), ((5, 4, 4), "exact")],
    ids=["one tile", "wider", "longer"],
)
def test_auto_on_a_cpu_is_one_pass_or_exact_but_never_tiles(vae, shape, equals):
    latents = torch.randn(1, 16, *shape)
    automatic = decode_latents(vae, latents)
    assert torch.equal(automatic, decode_latents(vae, latents, equals))
    torch.testing.assert_close(automatic, decode_latents(vae, latents, "plain"), rtol=0, atol=2e-6)
    if equals == "exact":
        assert not torch.allclose(automatic, decode_latents(vae, latents, "tiled"), rtol=0, atol=1e-4)


def test_a_video_that_exact_mode_cannot_hold_names_the_way_out(vae, monkeypatch):
    monkeypatch.setattr(exact, "DEFAULT_BUDGET", 1000)
    with pytest.raises(UserError, match="memory_budget=1000 bytes is too small.*--vae-mode tiled"):
        decode_latents(vae, torch.randn(1, 16, 5, 5, 5))
