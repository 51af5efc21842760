"""Causal VAE: golden cases, key names, gradients, dtypes, bad input."""

from __future__ import annotations

import pytest
import torch

from hunyuan_video.models import CausalVAE, VAEConfig

TINY = VAEConfig(
    latent_channels=4,
    block_out_channels=(8, 8, 16, 16),
    layers_per_block=1,
    norm_groups=4,
    tile_size=32,
    tile_frames=16,
)


def load(case) -> CausalVAE:
    vae = CausalVAE(VAEConfig.from_dict(case.facts["config"]))
    vae.load_state_dict(case.part("weights"), strict=True)
    return vae.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ["video9", "image"])
def test_golden_vae_untiled_encode(golden, name):
    case = golden("vae_untiled")
    vae, tolerance, want = load(case), case.facts["expect_tol"], case.part(f"out.{name}")
    posterior = vae.encode(case.tensors[f"in.{name}.video"])
    assert posterior.mean.shape == want["mean"].shape
    torch.testing.assert_close(posterior.mean, want["mean"], **tolerance)
    torch.testing.assert_close(posterior.logvar, want["logvar"], **tolerance)
    sample = posterior.sample(torch.Generator().manual_seed(6106))
    torch.testing.assert_close(sample, want["sample_seed6106"], **tolerance)
    pixels, recorded = vae.decode(posterior.mode()), want["recon_mode"]
    # The recording's own rounding is 3.2e-5 of float64, as much as the tolerance: ours may err as much, no more.
    exact = vae.double().decode(posterior.mode().double())
    assert (pixels - exact).abs().max() <= (recorded - exact).abs().max().clamp(min=tolerance["atol"])
    torch.testing.assert_close(pixels, recorded, rtol=tolerance["rtol"], atol=2 * tolerance["atol"])


@torch.no_grad()
@pytest.mark.parametrize("name", ["lat3", "lat1"])
def test_golden_vae_untiled_decode(golden, name):
    case = golden("vae_untiled")
    got = load(case).decode(case.tensors[f"in.{name}.latent"])
    torch.testing.assert_close(got, case.tensors[f"out.{name}.decoded"], **case.facts["expect_tol"])


@torch.no_grad()
def test_golden_vae_untiled_intermediate(golden):
    case = golden("vae_untiled")
    vae, seen = load(case), {}
    for name in ("conv_in", "mid_block", "up_blocks.0", "up_blocks.1", "up_blocks.2", "up_blocks.3"):
        module = vae.decoder.get_submodule(name)
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
    vae.decode(case.tensors["in.lat3.latent"])
    for name, value in seen.items():
        want = case.tensors.get(f"mid.decoder.{name}")
        if want is None:
            want, value = case.tensors[f"mid.decoder.{name}.sub"], value[:, :, :, ::3, ::3]
        torch.testing.assert_close(value, want, **case.facts["expect_tol"])


FAR = {"untiled": (4096, 4096), "spatial": (32, 4096), "temporal": (4096, 16), "both": (32, 16)}  # tile size, frames


@torch.no_grad()
@pytest.mark.parametrize("name", FAR)
def test_golden_vae_tiled(golden, name):
    case = golden("vae_tiled")
    vae = load(case)
    vae.config = vae.config.replace(tile_size=FAR[name][0], tile_frames=FAR[name][1])
    video = vae.decode(case.tensors["in.latent"], mode="tiled")
    out = f"out.decode_{name}"
    torch.testing.assert_close(case.cut(out, video), case.tensors[out], **case.facts["expect_tol"])
    posterior = vae.encode(case.tensors["in.video"], mode="tiled")
    mean, logvar = case.tensors[f"out.encode_{name}"].chunk(2, dim=1)
    torch.testing.assert_close(posterior.mean, mean, **case.facts["expect_tol"])
    torch.testing.assert_close(posterior.logvar, logvar.clamp(-30, 20), **case.facts["expect_tol"])


@pytest.mark.parametrize("name", ["official_vae_keys", "diffusers_vae_keys"])
def test_golden_vae_keys(golden_facts, name):
    with torch.device("meta"):
        vae = CausalVAE(VAEConfig())
    assert {key: list(value.shape) for key, value in vae.state_dict().items()} == golden_facts(name)


@pytest.mark.parametrize("mode", ["plain", "tiled"])
def test_meta_device_shapes(mode):
    with torch.device("meta"):
        vae = CausalVAE(VAEConfig())
        posterior = vae.encode(torch.empty(1, 3, 69, 256, 320), mode=mode)
        assert posterior.sample().shape == (1, 16, 18, 32, 40)
        assert vae.decode(posterior.mode(), mode=mode).shape == (1, 3, 69, 256, 320)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_gradients_reach_every_weight(attention, autocast):
    vae = CausalVAE(TINY.replace(mid_attention=attention))
    video = torch.rand(1, 3, 9, 16, 24) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        posterior = vae.encode(video)
        out = vae.decode(posterior.sample())
        loss = (out - video).abs().mean() + posterior.kl().mean()
    loss.backward()
    for name, weight in vae.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
        assert name.endswith("to_k.bias") or weight.grad.abs().max() > 0, name  # softmax ignores a constant in the keys


@torch.no_grad()
def test_bfloat16_follows_float32():
    vae = CausalVAE(TINY)
    latents = torch.randn(1, 4, 2, 3, 2)
    want = vae.decode(latents)
    got = vae.bfloat16().decode(latents.bfloat16())
    assert got.dtype == torch.bfloat16
    assert (got.float() - want).norm() / want.norm() < 0.05


@torch.no_grad()
def test_attention_is_causal_over_frames_and_full_within():
    attention = CausalVAE(TINY).decoder.mid_block.attentions[0]
    attention.group_norm.forward = lambda x: x  # its statistics run over all frames, on purpose
    x = torch.randn(1, 16, 4, 2, 3)
    changed = x.clone()
    changed[:, :, 2, 1, 2] += 1
    difference = (attention(changed) - attention(x)).abs().amax((0, 1))
    assert (difference[:2] == 0).all() and (difference[2:] > 0).all()


def test_posterior():
    moments = torch.cat((torch.full((1, 2, 1, 1, 1), 3.0), torch.full((1, 2, 1, 1, 1), 50.0)), dim=1)
    vae = CausalVAE(TINY)
    vae._encode_moments = lambda video: moments
    posterior = vae.encode(torch.zeros(1, 3, 1, 8, 8))
    assert (posterior.mode() == 3).all() and (posterior.logvar == 20).all()
    torch.testing.assert_close(posterior.kl(), torch.full((1, 2, 1, 1, 1), 0.5 * (9 + torch.e**20 - 1 - 20)))
    draws = [posterior.sample(torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*draws) and not torch.equal(draws[0], posterior.sample(torch.Generator().manual_seed(2)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 4, 16, 16), "4 frames of 16x16"),
        ((1, 3, 5, 12, 16), "5 frames of 12x16"),
        ((1, 3, 5, 16, 4), "e.g. 5 frames of 16x8"),
        ((1, 4, 5, 16, 16), r"video must be \[B, 3, frames"),
        ((3, 5, 16, 16), r"got shape \[3, 5, 16, 16\]"),
        ((0, 3, 5, 16, 16), r"got shape \[0, 3"),
    ],
)
def test_encode_refuses_bad_shapes(shape, message):
    with pytest.raises(ValueError, match=message):
        CausalVAE(TINY).encode(torch.zeros(shape))


def test_refuses_bad_arguments():
    vae = CausalVAE(TINY)
    latents = torch.zeros(1, 4, 1, 2, 2)
    with pytest.raises(ValueError, match="mode='fast' is unknown"):
        vae.decode(latents, mode="fast")
    with pytest.raises(ValueError, match="memory_budget applies to mode='exact' only"):
        vae.decode(latents, memory_budget=1 << 20)
    with pytest.raises(TypeError, match="latents is torch.float64 but the weights are torch.float32"):
        vae.decode(latents.double())
    with pytest.raises(ValueError, match=r"latents must be \[B, 4"):
        vae.decode(torch.zeros(1, 16, 1, 2, 2))


@torch.no_grad()
def test_compiles_without_graph_breaks():
    vae = CausalVAE(TINY).eval()
    latents = torch.randn(1, 4, 2, 3, 2)
    compiled = torch.compile(vae.decode, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(latents), vae.decode(latents))
