"""diffusers' own classes load what we save, and compute the same."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.tiny_models import TINY, randomized

from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (pip install 'hunyuan-ext[test]')")
from helpers.diffusers_peer import peer_velocity  # noqa: E402  (it needs diffusers)


def transformer_inputs(config, grid, lengths, longest):
    """Latents of `grid` (T, h, w) and texts of which only `lengths` tokens are valid."""
    batch = len(lengths)
    return {
        "latents": torch.randn(batch, config.in_channels, *grid),
        "timestep": torch.tensor([999.0, 373.25, 12.0])[:batch],
        "text": torch.randn(batch, longest, config.text_dim),
        "text_mask": torch.arange(longest) < torch.tensor(lengths)[:, None],
        "pooled_text": torch.randn(batch, config.pooled_text_dim),
        "guidance": torch.tensor([6000.0, 1000.0, 3500.0])[:batch] if config.guidance_embed else None,
    }


@torch.no_grad()
@pytest.mark.parametrize("guidance", [True, False])
@pytest.mark.parametrize(
    ("grid", "lengths", "longest"),
    [((3, 4, 6), (5, 7), 7), ((1, 2, 2), (1,), 1), ((2, 6, 10), (3, 11, 8), 11)],
    ids=["padded", "one-token", "batch3"],
)
def test_diffusers_transformer_parity(tmp_path, guidance, grid, lengths, longest):
    config = dataclasses.replace(TINY, guidance_embed=guidance, mlp_ratio=3, refiner_depth=1)
    model = randomized(HunyuanVideoTransformer(config))
    model.save_pretrained(tmp_path / "transformer")
    peer, report = diffusers.HunyuanVideoTransformer3DModel.from_pretrained(
        tmp_path / "transformer", output_loading_info=True, low_cpu_mem_usage=False
    )
    assert not any(report.values()), report
    x = transformer_inputs(config, grid, lengths, longest)
    expected = peer_velocity(peer, x)
    assert expected.std() > 0.1
    torch.testing.assert_close(model(**x), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_diffusers_transformer_parity_untouched(tmp_path, transformer):
    """With the peer's own frequencies, where the angles are small enough for their last bit not to matter."""
    transformer.save_pretrained(tmp_path)
    peer = diffusers.HunyuanVideoTransformer3DModel.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    x = transformer_inputs(TINY, (3, 4, 6), (5, 7), 7) | {
        "timestep": torch.tensor([11.5, 3.0]),
        "guidance": torch.ones(2),
    }
    torch.testing.assert_close(transformer(**x), peer_velocity(peer, x, share_frequencies=False), rtol=0, atol=1e-5)


@torch.no_grad()
def test_diffusers_transformer_loads_into_ours(tmp_path):
    peer = randomized(diffusers.HunyuanVideoTransformer3DModel.from_config(TINY.to_dict("diffusers")))
    peer.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    model = HunyuanVideoTransformer.from_pretrained(tmp_path)
    assert model.config == TINY
    x = transformer_inputs(TINY, (2, 4, 4), (3, 6), 6)
    torch.testing.assert_close(model(**x), peer_velocity(peer, x), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 9])
def test_diffusers_vae_parity(tmp_path, vae, frames):
    vae.decoder.conv_out.conv.weight.mul_(0.25)  # pixels of size 1, to which the tolerance belongs
    vae.save_pretrained(tmp_path / "vae")
    peer, report = diffusers.AutoencoderKLHunyuanVideo.from_pretrained(
        tmp_path / "vae", output_loading_info=True, low_cpu_mem_usage=False
    )
    assert not any(report.values()), report
    video = torch.rand(1, 3, frames, 24, 40) * 2 - 1
    moments = peer.encode(video).latent_dist
    posterior = vae.encode(video)
    torch.testing.assert_close(posterior.mean, moments.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(posterior.logvar, moments.logvar, rtol=0, atol=1e-5)
    torch.testing.assert_close(vae.decode(moments.mean), peer.decode(moments.mean).sample, rtol=0, atol=1e-5)


def test_diffusers_vae_loads_into_ours(tmp_path, vae):
    peer = randomized(diffusers.AutoencoderKLHunyuanVideo.from_config(vae.config.to_dict("diffusers")))
    peer.decoder.conv_out.conv.weight.data.mul_(0.25)  # as above
    peer.save_pretrained(tmp_path)
    model = CausalVAE.from_pretrained(tmp_path)
    assert model.config == vae.config
    latents = torch.randn(1, 4, 2, 3, 5)
    with torch.no_grad():
        torch.testing.assert_close(model.decode(latents), peer.decode(latents).sample, rtol=0, atol=1e-5)
