"""Image-to-video by token replacement: the first frame's tokens are modulated as at timestep 0."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.transformer_cases import tiny_config, tiny_inputs, tiny_model

from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.fp8 import convert_to_fp8_modules
from hunyuan_video.models.lora import add_adapter, target_linears

MARK = {"image_condition": "token_replace"}


def image_model(**changes):
    return tiny_model(**MARK, **{"double_blocks": 2, "single_blocks": 2, **changes})


def test_config_goes_both_ways_and_refuses_others():
    config = tiny_config(**MARK)
    assert config.to_dict()["image_condition_type"] == "token_replace"
    for layout in ("diffusers", "native"):
        assert TransformerConfig.from_dict(config.to_dict(layout)) == config
    assert "image_condition_type" not in tiny_config().to_dict()
    with pytest.raises(ValueError, match="image_condition must be one of .* got 'latent_concat'"):
        tiny_config(image_condition="latent_concat")


@torch.no_grad()
@pytest.mark.parametrize("guidance", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_diffusers_token_replace_parity(tmp_path, guidance, batch):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    from helpers.diffusers_peer import peer_velocity

    model = image_model(guidance_embed=guidance)
    model.save_pretrained(tmp_path)
    peer = diffusers.HunyuanVideoTransformer3DModel.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert peer.config.image_condition_type == "token_replace"
    assert HunyuanVideoTransformer.from_pretrained(tmp_path).config == model.config
    inputs = tiny_inputs(batch=batch, guidance=guidance)
    want = peer_velocity(peer, inputs)
    got = model(**inputs)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-6 * want.abs().max().item())
    model.config = dataclasses.replace(model.config, image_condition="")
    assert (model(**inputs) - want).abs().max() > 1e-3 * want.abs().max()


@torch.no_grad()
def test_at_timestep_zero_it_is_text_to_video():
    """Without guidance the first frame's condition is then everyone's."""
    model, inputs = image_model(guidance_embed=False), tiny_inputs(guidance=False)
    inputs["timestep"] = torch.zeros(2)
    image = model(**inputs)
    model.config = dataclasses.replace(model.config, image_condition="")
    torch.testing.assert_close(image, model(**inputs), rtol=0, atol=2e-6 * image.abs().max().item())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["fp32", "bf16", "fp8", "lora"])
def test_table_of_modulations_gives_the_same_forward(kind):
    model, inputs, tolerance = image_model(), tiny_inputs(), 5e-6
    if kind == "bf16":
        model, tolerance = model.bfloat16(), 0.03
    elif kind == "fp8":
        model = convert_to_fp8_modules(model)
    elif kind == "lora":
        add_adapter(model, "a", dict.fromkeys(target_linears(model), 2))
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    timesteps = torch.tensor([1000.0, 412.5])
    table = model.modulations(timesteps, inputs["pooled_text"], inputs["guidance"])
    for i, timestep in enumerate(timesteps):
        at = {**inputs, "timestep": timestep.expand(2)}
        want = model(**at)
        assert (model(**at, modulations=table.step(i)) - want).abs().max() <= tolerance * want.abs().max()
    for _, module in model.modulation_modules():  # nothing of them is read any more
        module.to("meta")
    assert model(**at, modulations=table.step(1)).isfinite().all()


def gradients(model, inputs):
    model.zero_grad()
    model(**inputs).square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_gradients_equal_those_of_vectors_per_token():
    """In float64 against the plain formula: shift, scale and gate of each token, by finite differences of the loss."""
    model, inputs = image_model(double_blocks=1, single_blocks=1).double(), tiny_inputs()
    inputs = {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
    grads = gradients(model, inputs)
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    slope = sum((grads[name] * direction[name]).sum() for name in grads)
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.add_(direction[name], alpha=sign * 1e-6)
            losses.append(model(**inputs).square().mean())
            for name, parameter in model.named_parameters():
                parameter.sub_(direction[name], alpha=sign * 1e-6)
    assert slope.item() == pytest.approx(((losses[0] - losses[1]) / 2e-6).item(), rel=1e-5)
    assert all(gradient.abs().max() > 0 for gradient in grads.values())


def test_checkpointing_and_one_graph_give_the_same_gradients():
    model, inputs = image_model(double_blocks=1, single_blocks=1), tiny_inputs()
    plain = gradients(model, inputs)
    model.gradient_checkpointing = True
    for name, gradient in gradients(model, inputs).items():
        assert torch.equal(gradient, plain[name]), name
    model.gradient_checkpointing = False
    model.zero_grad()
    torch.compiler.reset()
    torch.compile(model, backend="aot_eager", fullgraph=True)(**inputs).square().mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, plain[name], rtol=1e-4, atol=1e-5, msg=name)


@torch.no_grad()
def test_one_frame_is_all_clean():
    """A single latent frame: no token is left for the other slice of the video."""
    model, inputs = image_model(), tiny_inputs()
    inputs["latents"] = inputs["latents"][:, :, :1]
    assert model(**inputs).isfinite().all()
