"""Adapter files: round trip, diffusers' names and shapes, adapters of other programs, damaged files."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from hunyuan_video.checkpoints.lora import load_adapter, save_adapter
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.lora import add_adapter, lora_layers, merge_adapters, remove_adapters, target_linears

CONFIG = TransformerConfig(
    hidden_size=32, num_heads=2, double_blocks=1, single_blocks=1, in_channels=4, out_channels=4, rope_dims=(4, 6, 6),
    text_dim=8, pooled_text_dim=6, guidance_embed=False, refiner_depth=1,
)  # fmt: skip


def make() -> HunyuanVideoTransformer:
    torch.manual_seed(0)
    return HunyuanVideoTransformer(CONFIG)


@pytest.fixture
def saved(tmp_path):
    model = make()
    add_adapter(model, "a", dict.fromkeys(target_linears(model, ["(double|single)_blocks.*", "final_layer.*"]), 4))
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.adapters["a"].lora_B.normal_()
            layer.adapters["a"].alpha = 2.0
    return model, save_adapter(model, "a", tmp_path / "a.safetensors", torch.float32)


def merged(model) -> dict[str, torch.Tensor]:
    merge_adapters(model)
    return remove_adapters(model, keep_merged=True).state_dict()


def test_round_trip(saved):
    model, path = saved
    loaded = load_adapter(make(), path, "a")
    ranks = [layer.adapters["a"].rank for _, layer in lora_layers(loaded)]
    assert set(ranks) == {4}  # the repeated A of q, k and v is one again
    expected, result = merged(model), merged(loaded)
    assert all(torch.allclose(result[name], value, atol=1e-6) for name, value in expected.items())


def test_names_and_products_are_those_of_the_diffusers_model(saved, tmp_path):
    """Merged here and saved in diffusers' layout = merged by hand in diffusers' layout."""
    model, path = saved
    make().save_pretrained(tmp_path / "plain.safetensors")
    base, adapter = load_file(tmp_path / "plain.safetensors"), load_file(path)
    modules = {name.removesuffix(".lora_A.weight") for name in adapter if name.endswith(".lora_A.weight")}
    assert "transformer.transformer_blocks.0.attn.to_q" in modules and len(adapter) == 2 * len(modules)
    for module in modules:
        product = adapter[f"{module}.lora_B.weight"] @ adapter[f"{module}.lora_A.weight"]
        base[f"{module.removeprefix('transformer.')}.weight"] += product
    merge_adapters(model)
    remove_adapters(model, keep_merged=True).save_pretrained(tmp_path / "merged.safetensors")
    for name, value in load_file(tmp_path / "merged.safetensors").items():
        torch.testing.assert_close(value, base[name], rtol=1e-5, atol=1e-5)


def test_a_file_for_single_projections_is_fused_on_a_block_diagonal(tmp_path):
    prefix = "transformer.single_transformer_blocks.0.attn"
    q, v = (torch.randn(2, 32), torch.randn(32, 2)), (torch.randn(3, 32), torch.randn(32, 3))
    tensors = {f"{prefix}.to_q.lora_A.weight": q[0], f"{prefix}.to_q.lora_B.weight": q[1],
               f"{prefix}.to_v.lora_A.weight": v[0], f"{prefix}.to_v.lora_B.weight": v[1]}  # fmt: skip
    save_file(tensors, tmp_path / "qv.safetensors")
    before = make().single_blocks[0].linear1.weight.detach()
    model = load_adapter(make(), tmp_path / "qv.safetensors")
    assert [layer.adapters["default"].rank for _, layer in lora_layers(model)] == [5]
    after = merged(model)["single_blocks.0.linear1.weight"]
    change = torch.cat((q[1] @ q[0], torch.zeros(32, 32), v[1] @ v[0], torch.zeros(128, 32)))
    torch.testing.assert_close(after - before, change, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("transformer.proj_out.lora_A.weight"), "only one of lora_A and lora_B"),
        (lambda t: t.update({"transformer.proj_out.lora_A.weight": torch.zeros(4, 31)}), "for another model"),
        (lambda t: t.update({"lora_unet_x.lora_down.weight": torch.zeros(4, 4)}), "lora_unet_x"),
        (lambda t: t["transformer.proj_out.lora_A.weight"].fill_(torch.nan), "proj_out.lora_A.* no finite numbers"),
        (lambda t: t.clear(), "holds no low-rank weights"),
    ],
)
def test_wrong_files_are_one_line(saved, tmp_path, change, message):
    tensors = load_file(saved[1])
    change(tensors)
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match=message):
        load_adapter(make(), tmp_path / "bad.safetensors")


def test_an_absent_adapter_cannot_be_saved(tmp_path):
    with pytest.raises(UserError, match="no adapter 'x'"):
        save_adapter(make(), "x", tmp_path / "x.safetensors")
