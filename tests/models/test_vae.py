"""Causal VAE: golden cases, key names, shapes, gradients, bad input."""

from __future__ import annotations


import torch

from hunyuan_video.models import CausalVAE, VAEConfig


def load(case) -> CausalVAE:
    vae = CausalVAE(VAEConfig.from_dict(case.facts["config"]))
    vae.load_state_dict(case.part("weights"), strict=True)
    return vae.eval()


@torch.no_grad()
def test_golden_vae_untiled_encode(golden):
    case = golden("vae_untiled")
    vae, tolerance = load(case), case.facts["expect_tol"]
    for name in ("video9", "image"):
        want = case.part(f"out.{name}")
        posterior = vae.encode(case.tensors[f"in.{name}.video"])
        torch.testing.assert_close(posterior.mean, want["mean"], **tolerance)
        torch.testing.assert_close(posterior.logvar, want["logvar"], **tolerance)
        sample = posterior.sample(torch.Generator().manual_seed(6106))
        torch.testing.assert_close(sample, want["sample_seed6106"], **tolerance)
        torch.testing.assert_close(vae.decode(posterior.mode()), want["recon_mode"], **tolerance)


@torch.no_grad()
def test_golden_vae_untiled_decode(golden):
    case = golden("vae_untiled")
    vae, tolerance = load(case), case.facts["expect_tol"]
    for name in ("lat3", "lat1"):
        got = vae.decode(case.tensors[f"in.{name}.latent"])
        torch.testing.assert_close(got, case.tensors[f"out.{name}.decoded"], **tolerance)
