"""adaLN vectors of all steps at once: the same forward, without the weights that make them."""

from __future__ import annotations

import pytest
import torch
from helpers.transformer_cases import tiny_inputs, tiny_model

from hunyuan_video.models.fp8 import convert_to_fp8_modules
from hunyuan_video.models.lora import add_adapter, lora_layer
from hunyuan_video.models.transformer.linear import linear
from hunyuan_video.models.transformer.modulation import copied, near

TIMESTEPS = torch.tensor([1000.0, 873.25, 500.0, 20.5])


def table_of(model, inputs, timesteps=TIMESTEPS):
    return model.modulations(timesteps, inputs["pooled_text"], inputs["guidance"])


def at(inputs, timestep):
    return {**inputs, "timestep": timestep.expand(len(inputs["latents"]))}


@torch.no_grad()
@pytest.mark.parametrize("guidance", [True, False])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 5e-6), (torch.bfloat16, 0.03)]
)
def test_table_gives_the_same_forward(guidance, dtype, tolerance):
    model = tiny_model(guidance_embed=guidance, double_blocks=2, single_blocks=2).to(dtype)
    inputs = tiny_inputs(guidance=guidance)
    table = table_of(model, inputs)
    for i, timestep in enumerate(TIMESTEPS):
        want = model(**at(inputs, timestep))
        got = model(**at(inputs, timestep), modulations=table.step(i))
        assert (got - want).abs().max() <= tolerance * want.abs().max()


@torch.no_grad()
def test_table_holds_the_vectors_of_single_steps():
    model, inputs = tiny_model(), tiny_inputs()
    table = table_of(model, inputs)
    vec = model.condition(TIMESTEPS[2:3].expand(2), inputs["pooled_text"], inputs["guidance"])
    pairs = zip(table.step(2).double[0], model.double_blocks[0].modulate(vec), strict=True)
    for got, want in (*pairs, (table.step(2).final, model.final_layer.modulate(vec))):
        assert got.shape == want.shape
        assert (got - want).abs().max() <= 1e-6 * want.abs().max()


@torch.no_grad()
def test_fp8_weights():
    model, inputs = convert_to_fp8_modules(tiny_model()), tiny_inputs()
    table = table_of(model, inputs)
    for i, timestep in enumerate(TIMESTEPS):
        want = model(**at(inputs, timestep))
        got = model(**at(inputs, timestep), modulations=table.step(i))
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("fp8", [True, False])
def test_forward_does_not_need_the_modulation_modules(fp8):
    model, inputs = tiny_model(), tiny_inputs()
    model = convert_to_fp8_modules(model) if fp8 else model
    table = table_of(model, inputs)
    want = model(**at(inputs, TIMESTEPS[1]), modulations=table.step(1))
    for _, module in model.modulation_modules():
        module.to("meta")
    assert torch.equal(model(**at(inputs, TIMESTEPS[1]), modulations=table.step(1)), want)


def test_modulation_modules_are_all_that_is_unused():
    """Every other parameter has a gradient when the table is given, and none of these."""
    model, inputs = tiny_model(), tiny_inputs()
    with torch.no_grad():
        table = table_of(model, inputs)
    model(**at(inputs, TIMESTEPS[0]), modulations=table.step(0)).square().sum().backward()
    idle = {f"{path}.{name}" for path, module in model.modulation_modules() for name, _ in module.named_parameters()}
    assert {name for name, parameter in model.named_parameters() if parameter.grad is None} == idle


@torch.no_grad()
def test_compiles_as_one_graph():
    model, inputs = tiny_model(), tiny_inputs()
    table = table_of(model, inputs)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for i in range(2):
        got = compiled(**at(inputs, TIMESTEPS[i]), modulations=table.step(i))
        want = model(**at(inputs, TIMESTEPS[i]), modulations=table.step(i))
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["plain", "fp8", "adapter"])
def test_layers_in_host_memory_are_copied_for_a_call(kind):
    """The copy computes the same; the layer stays where it is, and its hooks are called."""
    model, inputs = tiny_model(), tiny_inputs()
    if kind == "fp8":
        convert_to_fp8_modules(model)
    if kind == "adapter":
        add_adapter(model, "style", {"single_blocks.0.modulation.linear": 2})
        torch.nn.init.normal_(lora_layer(model, "single_blocks.0.modulation.linear").adapter("style").lora_B)
    layer, calls = model.single_blocks[0].modulation.linear, []
    vec = model.condition(TIMESTEPS[:1], inputs["pooled_text"][:1], inputs["guidance"][:1])
    tensors = layer.state_dict(keep_vars=True)
    assert near(layer, torch.device("cpu")) is layer
    twin, expected = copied(layer, torch.device("cpu")), linear(layer, vec)
    assert torch.equal(linear(twin, vec), expected)
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    away = near(layer, torch.device("meta"))
    assert type(away) is type(layer) and all(tensor.is_meta for tensor in away.state_dict().values())
    after = layer.state_dict(keep_vars=True)
    assert after.keys() == tensors.keys() and all(after[name] is tensor for name, tensor in tensors.items())
    assert all(torch.equal(kept[name].float(), tensor.float()) for name, tensor in after.items())
    layer.register_forward_hook(lambda *_: calls.append(1))
    copied(layer, torch.device("cpu"))(vec)
    assert calls == [1]


@torch.no_grad()
def test_offloaded_modulations_give_the_same_video():
    model, inputs = tiny_model(), tiny_inputs()
    before = model(**inputs)
    model.offload_modulations()
    assert torch.equal(model(**inputs), before)
