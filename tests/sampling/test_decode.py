"""Decoding of latents: which way the VAE decodes, and what its failures say."""

import pytest
import torch

from hunyuan_video import UserError
from hunyuan_video.errors import PrecisionWarning
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


def scaled(vae, factor):
    """The VAE with larger activations behind its decoder's first layer; the norms take the factor out again."""
    with torch.no_grad():
        vae.decoder.conv_in.conv.weight.mul_(factor)
    return vae


def test_a_vae_that_overflows_float16_decodes_in_bfloat16_and_says_so(vae):
    latents = torch.randn(2, 16, 2, 4, 4)
    wide = decode_latents(scaled(vae, 1e6).to(torch.bfloat16), latents)
    half = vae.half()
    with pytest.warns(PrecisionWarning, match="the VAE leaves the range of float16 .* decodes again in bfloat16"):
        video = decode_latents(half, latents)
    assert video.std() > 0.01 and torch.equal(video, wide)
    assert next(half.parameters()).dtype == torch.float16  # the pipeline's own stays as it was


@pytest.mark.parametrize(
    "dtype, advice", [(torch.float32, "the VAE's weights are damaged"), (torch.bfloat16, "float32")]
)
def test_frames_that_are_not_finite_are_refused(vae, dtype, advice):
    with torch.no_grad():
        vae.decoder.conv_out.conv.bias[1] = float("inf")
    with pytest.raises(UserError, match=rf"the decoded frames hold .*\[0, 1, 0, 0, 0\] first.*{advice}") as error:
        decode_latents(vae.to(dtype), torch.randn(1, 16, 2, 4, 4))
    assert "\n" not in str(error.value)


def test_latents_that_are_not_finite_are_refused(vae):
    latents = torch.zeros(1, 16, 2, 4, 4)
    latents[0, 3, 1, 0, 2] = float("nan")
    with pytest.raises(UserError, match=r"the latents hold NaN .*\[0, 3, 1, 0, 2\] first\); sample again with --dtype"):
        decode_latents(vae, latents)
