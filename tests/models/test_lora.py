"""Low-rank adapters: neutral at first, merged equals branch, unmerged is the original bit for bit."""

import pytest
import torch
from torch import nn

from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.lora import (
    LoRALinear,
    add_adapter,
    lora_layers,
    merge_adapters,
    remove_adapters,
    set_adapters,
    target_linears,
    unmerge_adapters,
)

CONFIG = TransformerConfig(
    hidden_size=32, num_heads=2, double_blocks=1, single_blocks=2, in_channels=4, out_channels=4, rope_dims=(4, 6, 6),
    text_dim=8, pooled_text_dim=6, guidance_embed=False, refiner_depth=1,
)  # fmt: skip


def make(dtype=torch.float32) -> HunyuanVideoTransformer:
    torch.manual_seed(0)
    model = HunyuanVideoTransformer(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model.to(dtype).eval()


def perturb(model: nn.Module, name: str) -> None:
    with torch.no_grad():
        for _, layer in lora_layers(model):
            if name in layer.adapters:
                layer.adapters[name].lora_B.normal_(std=0.1)


def call(model: HunyuanVideoTransformer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    dtype = model.dtype
    text, pooled = torch.randn(2, 5, 8, generator=generator), torch.randn(2, 6, generator=generator)
    latents = torch.randn(2, 4, 2, 4, 4, generator=generator)
    with torch.no_grad():
        return model(latents.to(dtype), torch.tensor([300.0, 900.0]), text=text.to(dtype), pooled_text=pooled.to(dtype))


def test_targets_are_the_video_and_joint_streams():
    paths = target_linears(make())
    assert "double_blocks.0.img_attn_qkv" in paths and "single_blocks.1.linear2" in paths
    assert not any("txt" in path for path in paths) and len(paths) == 5 + 2 * 3 + 2
    with pytest.raises(ValueError, match="no linear"):
        target_linears(make(), ["triple_blocks.*"])


def test_a_new_adapter_changes_nothing_and_only_it_is_trained():
    model = make()
    before = call(model)
    model.requires_grad_(False)
    add_adapter(model, "a", dict.fromkeys(target_linears(model), 4))
    assert torch.equal(call(model), before)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all(name.endswith(("lora_A", "lora_B")) for name in trained)


def test_the_branch_is_the_product():
    layer = LoRALinear(nn.Linear(6, 5))
    add = nn.ModuleDict({"x": layer})
    add_adapter(add, "a", {"x": 3}, {"x": 6.0}, weight=0.5)
    perturb(add, "a")
    x = torch.randn(2, 7, 6)
    adapter = layer.adapters["a"]
    weight = layer.base_layer.weight + 0.5 * (6 / 3) * adapter.lora_B @ adapter.lora_A
    torch.testing.assert_close(layer(x), nn.functional.linear(x, weight, layer.base_layer.bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merging_gives_the_same_and_unmerging_the_original_bits(dtype):
    model = make(dtype)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    add_adapter(model, "a", dict.fromkeys(target_linears(model), 4))
    add_adapter(model, "b", dict.fromkeys(target_linears(model)[:3], 2), weight=0.7)
    perturb(model, "a")
    perturb(model, "b")
    branch = call(model)
    merge_adapters(model)
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(call(model), branch, rtol=tolerance, atol=tolerance)
    merge_adapters(model)  # again: not twice as much
    torch.testing.assert_close(call(model), branch, rtol=tolerance, atol=tolerance)
    unmerge_adapters(model)
    assert torch.equal(call(model), branch)
    remove_adapters(model)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_adapters_are_switched_by_name():
    model = make()
    plain = call(model)
    add_adapter(model, "a", dict.fromkeys(target_linears(model), 4))
    perturb(model, "a")
    changed = call(model)
    merge_adapters(model)
    set_adapters(model, {})
    assert torch.equal(call(model), plain)
    set_adapters(model, {"a": 1.0})
    assert torch.equal(call(model), changed) and not torch.equal(changed, plain)
    with pytest.raises(ValueError, match="no adapter 'c'"):
        set_adapters(model, {"c": 1.0})
    with pytest.raises(ValueError, match="already"):
        add_adapter(model, "a", {"single_blocks.0.linear1": 4})
    with pytest.raises(ValueError, match="no linear layer"):
        add_adapter(model, "d", {"single_blocks.0": 4})


def test_an_adapter_added_to_merged_layers_counts():
    model = make()
    for name in ("a", "b"):
        add_adapter(model, name, dict.fromkeys(target_linears(model), 2))
        perturb(model, name)
        merged = call(model)  # "a" is merged when "b" comes
        merge_adapters(model)
        torch.testing.assert_close(call(model), merged, rtol=1e-4, atol=1e-4)
    unmerge_adapters(model)
    torch.testing.assert_close(call(model), merged, rtol=1e-4, atol=1e-4)


def test_targets_that_are_no_expression_are_named():
    with pytest.raises(ValueError, match=r"target '\(' is no regular expression"):
        target_linears(make(), ["("])


def test_merged_for_good_are_plain_linears():
    model = make()
    add_adapter(model, "a", dict.fromkeys(target_linears(model), 4))
    perturb(model, "a")
    branch = call(model)
    merge_adapters(model)
    assert not list(lora_layers(remove_adapters(model, keep_merged=True)))
    torch.testing.assert_close(call(model), branch, rtol=1e-5, atol=1e-5)
