"""Recorded training steps against the same steps call by call."""

import pytest
import torch
from torch import nn

from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, TransformerConfig, VAEConfig
from hunyuan_video.training.muon import Muon
from hunyuan_video.training.recorded import Recorded
from hunyuan_video.training.tasks.vae import Passes

pytestmark = pytest.mark.gpu


def gradients(module: nn.Module, on: bool, draws: list[dict[str, torch.Tensor]]) -> list[torch.Tensor]:
    """Loss and gradients of the last of several calls."""
    call = Recorded(module, on)
    for tensors in draws:
        module.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            out = call(*tensors.values()) if "first" in tensors else call(**tensors)
        outs = out if isinstance(out, tuple) else (out,)
        loss = sum(o.float().square().mean() for o in outs)
        loss.backward()
    grads = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    return [loss.detach(), *grads]


def test_a_recorded_transformer_has_the_same_gradients():
    torch.manual_seed(1)
    config = TransformerConfig(hidden_size=64, num_heads=2, double_blocks=1, single_blocks=1, rope_dims=(8, 12, 12),
                               text_dim=24, pooled_text_dim=16, guidance_embed=False, refiner_depth=1)  # fmt: skip
    model = HunyuanVideoTransformer(config).cuda().train()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    draws = []
    for length in (5, 9, 7):
        mask = (torch.arange(9, device="cuda") < length).long().expand(3, -1).contiguous()
        draws.append({"latents": torch.randn(3, 16, 2, 8, 8, device="cuda"),
                      "timestep": 1000 * torch.rand(3, device="cuda"),
                      "text": torch.randn(3, 9, 24, device="cuda"), "text_mask": mask,
                      "pooled_text": torch.randn(3, 16, device="cuda")})  # fmt: skip
    for recorded, plain in zip(gradients(model, True, draws), gradients(model, False, draws), strict=True):
        torch.testing.assert_close(recorded, plain, rtol=0.05, atol=0.02 * plain.abs().max().item())


@pytest.mark.parametrize("given", [True, False])
def test_a_recorded_vae_has_the_same_gradients(given):
    torch.manual_seed(2)
    vae = CausalVAE(VAEConfig(latent_channels=4, block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_groups=4))
    passes = Passes(vae.cuda().train(), given)
    draws = [
        {"video": torch.rand(2, 3, 9, 32, 32, device="cuda") - 0.5, "first": torch.randn(2, 4, 3, 4, 4, device="cuda"),
         "second": 0.1 * torch.randn(2, 4, 3, 4, 4, device="cuda")} for _ in range(3)
    ]  # fmt: skip
    for recorded, plain in zip(gradients(passes, True, draws), gradients(passes, False, draws), strict=True):
        torch.testing.assert_close(recorded, plain, rtol=0.05, atol=0.03 * plain.abs().max().item())


def test_recorded_muon_makes_the_same_steps():
    results = []
    for graphs in (True, False):
        torch.manual_seed(3)
        parameters = [nn.Parameter(torch.randn(shape, device="cuda")) for shape in ((8, 24), (16, 4, 3), (8, 24))]
        muon = Muon(parameters, lr=0.1, cuda_graphs=graphs)
        for _ in range(4):
            for parameter in parameters:
                parameter.grad = torch.randn_like(parameter)
            muon.step()
        results.append([parameter.detach() for parameter in parameters])
    for recorded, plain in zip(*results, strict=True):
        torch.testing.assert_close(recorded, plain, rtol=0, atol=2e-3)
