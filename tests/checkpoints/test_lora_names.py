"""Adapter files of other programs: the same low-rank change under every program's names; FP8 base weights."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from hunyuan_video.checkpoints.keys import module_templates
from hunyuan_video.checkpoints.lora import load_adapter, save_adapter
from hunyuan_video.checkpoints.lora_names import lora_target
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.fp8 import FP8Linear, convert_to_fp8_modules
from hunyuan_video.models.lora import (
    add_adapter,
    lora_layers,
    merge_adapters,
    remove_adapters,
    set_adapters,
    target_linears,
    unmerge_adapters,
)

CONFIG = TransformerConfig(
    hidden_size=32, num_heads=2, double_blocks=2, single_blocks=2, in_channels=4, out_channels=4, rope_dims=(4, 6, 6),
    text_dim=8, pooled_text_dim=6, guidance_embed=True, refiner_depth=1,
)  # fmt: skip
COMFYUI = {"img_attn_qkv": "img_attn.qkv", "img_attn_proj": "img_attn.proj", "img_mlp.fc1": "img_mlp.0",
           "img_mlp.fc2": "img_mlp.2", "img_mod.linear": "img_mod.lin", "modulation.linear": "modulation.lin",
           "linear1": "linear1", "linear2": "linear2"}  # fmt: skip


def make() -> HunyuanVideoTransformer:
    torch.manual_seed(0)
    return HunyuanVideoTransformer(CONFIG).eval()


@pytest.fixture
def trained():
    model = make()
    add_adapter(model, "a", dict.fromkeys(target_linears(model), 4))
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.adapter("a").lora_B.normal_(std=0.3)
    return model


def under(model, name_of, alpha):
    """The adapter of a model as another program's file; B undoes the alpha that its reader multiplies in."""
    tensors = {}
    for path, layer in lora_layers(model):
        adapter, names = layer.adapter("a"), name_of(path)
        tensors[names[0]] = adapter.lora_A.detach().contiguous()
        tensors[names[1]] = adapter.lora_B.detach() * (1 if alpha is None else adapter.rank / alpha)
        if alpha is not None:
            tensors[names[2]] = torch.tensor(alpha)
    return tensors


def peft(path):
    return [f"diffusion_model.{path}.{leaf}" for leaf in ("lora_A.weight", "lora_B.weight", "alpha")]


def peft_default(path):
    return [f"base_model.model.{path}.{leaf}" for leaf in ("lora_A.default.weight", "lora_B.default.weight")]


def kohya(path):
    return [f"lora_unet_{path.replace('.', '_')}.{x}" for x in ("lora_down.weight", "lora_up.weight", "alpha")]


def comfyui(path):
    for ours, theirs in COMFYUI.items():
        if path.endswith(ours):
            path = path.removesuffix(ours) + theirs
            break
    return [f"diffusion_model.{path}.{leaf}" for leaf in ("lora_down.weight", "lora_up.weight", "alpha")]


@pytest.mark.parametrize(("name_of", "alpha"), [(peft, None), (peft_default, None), (kohya, 2.0), (comfyui, 8.0)])
def test_every_programs_names_give_the_same_change(trained, tmp_path, name_of, alpha):
    save_file(under(trained, name_of, alpha), tmp_path / "x.safetensors")
    loaded = load_adapter(make(), tmp_path / "x.safetensors", "a")
    expected = {path: layer.adapter("a").delta() for path, layer in lora_layers(trained)}
    result = {path: layer.adapter("a").delta() for path, layer in lora_layers(loaded)}
    assert set(result) == set(expected)
    for path, change in expected.items():
        torch.testing.assert_close(result[path], change, rtol=1e-5, atol=1e-6)


def test_kohya_names_of_diffusers_modules(trained, tmp_path):
    path = save_adapter(trained, "a", tmp_path / "diffusers.safetensors", torch.float32)
    renamed = {}
    for key, value in load_file(path).items():
        module, _, leaf = key.removeprefix("transformer.").partition(".lora_")
        flat = f"lora_unet_{module.replace('.', '_')}"
        renamed[f"{flat}.lora_{'down' if leaf.startswith('A') else 'up'}.weight"] = value
    save_file(renamed, tmp_path / "kohya.safetensors")
    loaded = load_adapter(make(), tmp_path / "kohya.safetensors", "a")
    for module, layer in lora_layers(trained):
        torch.testing.assert_close(
            loaded.get_submodule(module).adapter("a").delta(), layer.adapter("a").delta(), rtol=1e-5, atol=1e-6
        )


def test_every_module_is_found_under_every_spelling():
    for official, theirs in module_templates().items():
        path = official.format(3)
        for key in (f"diffusion_model.{path}.lora_A.weight", f"lora_unet_{path.replace('.', '_')}.lora_down.weight"):
            assert lora_target(key)[:3] == (path, None, "A"), key
        for part, name in enumerate(theirs):
            assert lora_target(f"transformer.{name.format(3)}.lora_B.weight")[:3] == (path, part, "B")


@pytest.mark.parametrize(
    ("key", "message"),
    [("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", "text encoder"),
     ("lora_unet_input_blocks_1_proj_in.lora_down.weight", "no low-rank weight"),
     ("diffusion_model.double_blocks.0.img_attn_qkv.dora_scale", "without its low-rank pair"),
     ("diffusion_model.double_blocks.7.img_attn_qkv.lora_A.weight", "no double_blocks.7")],
)  # fmt: skip
def test_other_files_are_refused_in_one_line(tmp_path, key, message):
    save_file({key: torch.zeros(2, 32), key.replace("A", "B"): torch.zeros(96, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=message) as error:
        load_adapter(make(), tmp_path / "x.safetensors")
    assert "\n" not in str(error.value)


def forward(model):
    generator = torch.Generator().manual_seed(1)
    text, pooled = torch.randn(1, 5, 8, generator=generator), torch.randn(1, 6, generator=generator)
    latents = torch.randn(1, 4, 2, 4, 4, generator=generator)
    with torch.no_grad():
        return model(latents, torch.tensor([500.0]), text=text, text_mask=torch.ones(1, 5), pooled_text=pooled,
                     guidance=torch.tensor([6000.0]))  # fmt: skip


def test_adapters_work_beside_fp8_weights_without_changing_them(trained, tmp_path):
    path = save_adapter(trained, "a", tmp_path / "a.safetensors", torch.float32)
    base = convert_to_fp8_modules(make())
    plain = forward(base)
    weights = {name: value.clone() for name, value in base.state_dict().items() if value.dtype == torch.float8_e4m3fn}
    adapted = load_adapter(base, path, "a")
    changed = forward(adapted)
    assert (changed - plain).abs().max() > 1e-3
    merge_adapters(adapted)
    torch.testing.assert_close(forward(adapted), changed, rtol=1e-4, atol=1e-5)  # the final layer is not FP8
    for name, value in weights.items():
        module, _, leaf = name.rpartition(".")
        layer = adapted.get_submodule(module)
        kept = getattr(layer.base_layer if hasattr(layer, "base_layer") else layer, leaf)
        assert torch.equal(kept.view(torch.uint8), value.view(torch.uint8))
    remove_adapters(adapted)
    assert torch.equal(forward(adapted), plain)


def test_fp8_with_adapter_is_as_near_to_the_full_model_as_fp8_is(trained, tmp_path):
    """The low-rank branch adds no error of its own: it is the unquantized one."""
    path = save_adapter(trained, "a", tmp_path / "a.safetensors", torch.float32)
    full, quantized = make(), convert_to_fp8_modules(make())
    layer = "single_blocks.1.linear1"
    x = torch.randn(7, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        without = quantized.get_submodule(layer)(x) - full.get_submodule(layer)(x)
        load_adapter(full, path, "a"), load_adapter(quantized, path, "a")
        assert isinstance(quantized.get_submodule(layer).base_layer, FP8Linear)
        with_adapter = quantized.get_submodule(layer)(x) - full.get_submodule(layer)(x)
    torch.testing.assert_close(with_adapter, without, rtol=1e-4, atol=1e-5)


def test_several_adapters_add_up_with_their_weights_and_leave_no_trace(trained, tmp_path):
    entry = save_adapter(trained, "a", tmp_path / "one.safetensors", torch.float32)
    model = load_adapter(load_adapter(make(), entry, "x", 0.5), entry, "y", 1.5)
    double = forward(load_adapter(make(), entry, "z", 2.0))
    torch.testing.assert_close(forward(model), double, rtol=1e-4, atol=1e-5)
    before = {name: value.clone() for name, value in make().state_dict().items()}
    merge_adapters(model)
    torch.testing.assert_close(forward(model), double, rtol=1e-4, atol=1e-5)
    unmerge_adapters(model)
    set_adapters(model, {"y": 1.0})
    torch.testing.assert_close(forward(model), forward(trained), rtol=1e-4, atol=1e-5)
    after = remove_adapters(model).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
