"""Adapters written in each program's names: equal when read back, in the same bytes, and by diffusers with PEFT."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hunyuan_video.checkpoints.lora import convert_adapter, load_adapter, save_adapter
from hunyuan_video.checkpoints.lora_build import Changes
from hunyuan_video.checkpoints.lora_save import write_adapter
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.lora import add_adapter, add_form, lora_layers, merge_adapters, remove_adapters
from hunyuan_video.models.lora.forms import Adapter, DoRA, LoHa, LoKr

CONFIG = TransformerConfig(
    hidden_size=32, num_heads=2, double_blocks=1, single_blocks=1, in_channels=4, out_channels=4, rope_dims=(4, 6, 6),
    text_dim=8, pooled_text_dim=6, guidance_embed=True, refiner_depth=1,
)  # fmt: skip
RANKS = {"double_blocks.0.img_attn_qkv": 4, "double_blocks.0.txt_mlp.fc1": 4, "single_blocks.0.linear1": 4,
         "single_blocks.0.linear2": 2, "final_layer.linear": 3, "final_layer.adaLN_modulation.1": 4}  # fmt: skip


def make() -> HunyuanVideoTransformer:
    torch.manual_seed(0)
    model = HunyuanVideoTransformer(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


@pytest.fixture
def trained():
    model = make()
    add_adapter(model, "a", RANKS, dict.fromkeys(RANKS, 6.0))
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.adapter("a").lora_B.normal_(std=0.3)
    return model


def merged(model) -> dict[str, torch.Tensor]:
    merge_adapters(model)
    return remove_adapters(model, keep_merged=True).state_dict()


def same(result: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(result[name], value, rtol=1e-4, atol=1e-5, msg=name)


def header(path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.mark.parametrize("names", ["diffusers", "official", "kohya"])
def test_every_programs_names_hold_the_same_adapter(trained, tmp_path, names):
    path = save_adapter(trained, "a", tmp_path / "x.safetensors", torch.float32, names, {"trigger_words": "ohwx"})
    again = save_adapter(trained, "a", tmp_path / "y.safetensors", torch.float32, names, {"trigger_words": "ohwx"})
    assert path.read_bytes() == again.read_bytes()
    assert header(path)["trigger_words"] == "ohwx"
    same(merged(load_adapter(make(), path)), merged(trained))


def test_what_each_reader_looks_at(trained, tmp_path):
    kohya = save_adapter(trained, "a", tmp_path / "k.safetensors", torch.bfloat16, "kohya")
    tensors = load_file(kohya)
    flat = "lora_unet_single_blocks_0_linear2"
    assert tensors[f"{flat}.alpha"] == 6 and tensors[f"{flat}.lora_down.weight"].shape == (2, 160)
    assert header(kohya)["ss_network_alpha"] == "6.0" and header(kohya)["ss_network_dim"] == "4"
    official = load_file(save_adapter(trained, "a", tmp_path / "o.safetensors", torch.float32, "official"))
    pair = trained.get_submodule("single_blocks.0.linear2").adapter("a")
    torch.testing.assert_close(official["diffusion_model.single_blocks.0.linear2.lora_B.weight"], 3 * pair.lora_B)
    assert not any(key.endswith("alpha") for key in official)
    config = json.loads(header(save_adapter(trained, "a", tmp_path / "d.safetensors"))["lora_adapter_metadata"])
    assert config["transformer.r"] == config["transformer.lora_alpha"] == 4  # alpha is in B
    assert config["transformer.rank_pattern"] == {"^proj_out": 3, "^single_transformer_blocks.0.proj_out": 2}


@pytest.mark.parametrize("source", ["diffusers", "official", "kohya"])
@pytest.mark.parametrize("names", ["diffusers", "official", "kohya"])
def test_converting_keeps_the_strength(trained, tmp_path, source, names):
    metadata = {"trigger_words": "ohwx"}
    path = save_adapter(trained, "a", tmp_path / "x.safetensors", torch.float32, source, metadata)
    done = convert_adapter(path, tmp_path / "y.safetensors", names, config=CONFIG)
    assert header(done)["trigger_words"] == "ohwx"
    same(merged(load_adapter(make(), done)), merged(trained))


@pytest.mark.parametrize("names", ["official", "kohya"])
def test_other_forms_biases_and_norms_go_there_and_back(trained, tmp_path, names):
    draw = torch.randn
    add_form(
        trained, "a", "double_blocks.0.txt_attn_qkv", LoHa(draw(96, 2), draw(2, 32), draw(96, 2), draw(2, 32), 0.1)
    )
    add_form(trained, "a", "double_blocks.0.txt_attn_proj", LoKr([draw(4, 2)], [draw(8, 3), draw(3, 16)], 0.1))
    layer = trained.get_submodule("single_blocks.0.linear1")
    layer.adapters["a"] = DoRA(layer.adapters["a"], 1 + torch.rand(224, 1))
    path = save_adapter(trained, "a", tmp_path / "x.safetensors", torch.float32, names)
    extra = {"diffusion_model.single_blocks.0.q_norm.diff": draw(16), "diffusion_model.img_in.proj.diff_b": draw(32)}
    save_file(load_file(path) | extra, tmp_path / "y.safetensors")
    model = load_adapter(make(), tmp_path / "y.safetensors", "a")
    again = save_adapter(model, "a", tmp_path / "z.safetensors", torch.float32, names)
    same(merged(load_adapter(make(), again)), merged(model))
    with pytest.raises(UserError, match="diffusers' names cannot hold"):
        save_adapter(load_adapter(make(), path, "a"), "a", tmp_path / "d.safetensors")
    assert not (tmp_path / "d.safetensors").exists()


def test_what_cannot_be_converted_is_one_line(trained, tmp_path):
    path = save_adapter(trained, "a", tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"takes \[rank, 3072\] .* --model names"):  # of the released model
        convert_adapter(path, tmp_path / "y.safetensors", "kohya")
    with pytest.raises(UserError, match="ends in .safetensors"):
        convert_adapter(path, tmp_path / "y.pt", "kohya", config=CONFIG)
    with pytest.raises(UserError, match="are both"):
        convert_adapter(path, path, "kohya", config=CONFIG)
    save_file({"final_layer.linear.set_weight": torch.zeros(16, 32), **load_file(path)}, tmp_path / "s.safetensors")
    with pytest.raises(UserError, match="whole weight"):
        convert_adapter(tmp_path / "s.safetensors", tmp_path / "y.safetensors", "kohya", config=CONFIG)


def test_command_line(trained, tmp_path, capsys):
    from hunyuan_video.cli import main

    path = save_adapter(trained, "a", tmp_path / "x.safetensors")
    make().save_pretrained(tmp_path / "model" / "transformer")
    done = tmp_path / "y.safetensors"
    assert main(["convert", str(path), str(done), "--names", "kohya", "--model", str(tmp_path / "model")]) == 0
    assert all(key.startswith("lora_unet_") for key in load_file(done))
    assert main(["convert", str(path), str(done)]) == 2 and "--names" in capsys.readouterr().err
    assert main(["convert", str(path), str(done), "--layout", "official", "--model", "tiny"]) == 2
    assert main(["convert", str(path), str(tmp_path / "z"), "--layout", "official"]) == 1
    assert "is an adapter (LoRA), not a checkpoint" in capsys.readouterr().err


def test_diffusers_converts_official_names_to_what_is_written_in_its_own(tmp_path):
    """Its conversion has the released model's width in its code, so the sizes are the released ones."""
    pytest.importorskip("peft")
    diffusers = pytest.importorskip("diffusers")
    sizes = {"double_blocks.7.img_attn_qkv": (9216, 3072), "double_blocks.7.txt_mlp.fc1": (12288, 3072),
             "double_blocks.7.img_mod.linear": (18432, 3072), "single_blocks.3.linear1": (21504, 3072),
             "single_blocks.3.linear2": (3072, 15360), "final_layer.linear": (64, 3072)}  # fmt: skip
    forms = {path: Adapter.of(torch.randn(2, k), torch.randn(n, 2), alpha=5.0) for path, (n, k) in sizes.items()}
    states = []
    for names in ("official", "diffusers"):
        path = write_adapter(tmp_path / f"{names}.safetensors", Changes(dict(forms)), names, torch.float32)
        states.append(diffusers.HunyuanVideoPipeline.lora_state_dict(str(path)))
    assert states[0].keys() == states[1].keys() and len(states[0]) == 2 * (3 + 1 + 1 + 4 + 1 + 1)
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())


@pytest.mark.parametrize("form", ["LoRA", "DoRA"])
def test_diffusers_with_peft_reads_it_with_the_same_result(trained, tmp_path, form):
    pytest.importorskip("peft")
    diffusers = pytest.importorskip("diffusers")
    if form == "DoRA":
        for _, layer in lora_layers(trained):
            layer.adapters["a"] = DoRA(layer.adapters["a"], 1 + torch.rand(layer.base_layer.out_features, 1))
    make().save_pretrained(tmp_path / "transformer")
    path = save_adapter(trained, "a", tmp_path / "x.safetensors", torch.float32)
    theirs = diffusers.HunyuanVideoTransformer3DModel.from_pretrained(tmp_path / "transformer")
    pipeline = diffusers.HunyuanVideoPipeline
    state, metadata = pipeline.lora_state_dict(str(path), return_lora_metadata=True)
    pipeline.load_lora_into_transformer(state, theirs, adapter_name="a", metadata=metadata)
    generator = torch.Generator().manual_seed(1)
    text, pooled = torch.randn(1, 5, 8, generator=generator), torch.randn(1, 6, generator=generator)
    latents, guidance = torch.randn(1, 4, 2, 4, 4, generator=generator), torch.tensor([6000.0])
    with torch.no_grad():
        expected = trained(latents, torch.tensor([500.0]), text=text, text_mask=torch.ones(1, 5), pooled_text=pooled,
                           guidance=guidance)  # fmt: skip
        result = theirs(
            latents, torch.tensor([500.0]), text, torch.ones(1, 5, dtype=torch.long), pooled, guidance
        ).sample
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        theirs.disable_lora()
        plain = theirs(
            latents, torch.tensor([500.0]), text, torch.ones(1, 5, dtype=torch.long), pooled, guidance
        ).sample
    assert (plain - expected).abs().max() > 0.01
