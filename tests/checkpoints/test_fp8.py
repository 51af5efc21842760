"""FP8 weights: the official pair of files, our safetensors, plain casts, quantization while loading."""

from __future__ import annotations

import os

import pytest
import torch
from helpers.tiny_models import TINY, same_weights
from safetensors.torch import load_file, save_file

import hunyuan_ext as ops
from hunyuan_video.checkpoints import convert
from hunyuan_video.errors import UserError
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer
from hunyuan_video.models.fp8 import FP8Linear, fp8_linears
from hunyuan_video.models.transformer.config import TransformerConfig

BLOCK_LINEARS = 2 * 10 + 2 * 3


def official_fp8(transformer, granularity="tensor"):
    """State dict and scales as in the released FP8 files: bf16, block linears float8 with a bf16 scale."""
    state = {name: tensor.bfloat16() for name, tensor in transformer.state_dict().items()}
    scales = {}
    for path, _ in fp8_linears(transformer):
        weight, scale = ops.quantize_fp8(state[f"{path}.weight"], granularity=granularity)
        state[f"{path}.weight"] = weight
        scales[path] = scale.bfloat16().reshape(-1, 1) if granularity == "row" else scale.bfloat16().reshape(1)
    return state, scales


def write_official(folder, state, scales):
    torch.save({"module": state}, folder / "mp_rank_00_model_states_fp8.pt")
    if scales is not None:
        torch.save(scales, folder / "mp_rank_00_model_states_fp8_map.pt")
    return folder / "mp_rank_00_model_states_fp8.pt"


def assert_holds(model, state, scales):
    linears = {path: module for path, module in model.named_modules() if isinstance(module, FP8Linear)}
    assert linears.keys() == scales.keys()
    for path, linear in linears.items():
        assert torch.equal(linear.weight.view(torch.uint8), state[f"{path}.weight"].view(torch.uint8))
        assert torch.equal(linear.scale.reshape(-1), scales[path].float().reshape(-1))
    others = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(tuple(linears))}
    assert others and all(torch.equal(tensor, state[name]) for name, tensor in others.items())


@pytest.mark.parametrize("granularity", ["tensor", "row"])
def test_official_files(tmp_path, transformer, granularity):
    state, scales = official_fp8(transformer, granularity)
    assert len(scales) == BLOCK_LINEARS
    for path in (write_official(tmp_path, state, scales), tmp_path):
        assert_holds(HunyuanVideoTransformer.from_pretrained(path), state, scales)


def test_the_bf16_file_is_preferred_in_a_folder_with_both(tmp_path, transformer):
    write_official(tmp_path, *official_fp8(transformer))
    torch.save({"module": transformer.state_dict()}, tmp_path / "mp_rank_00_model_states.pt")
    assert same_weights(HunyuanVideoTransformer.from_pretrained(tmp_path), transformer)


@pytest.mark.parametrize("granularity", ["tensor", "row"])
@pytest.mark.parametrize("layout", ["diffusers", "official"])
@pytest.mark.parametrize("name", ["folder", "a.safetensors"])
def test_round_trip(tmp_path, transformer, granularity, layout, name):
    state, scales = official_fp8(transformer, granularity)
    model = HunyuanVideoTransformer.from_pretrained(write_official(tmp_path, state, scales))
    path = model.save_pretrained(tmp_path / "new" / name, layout)
    loaded = HunyuanVideoTransformer.from_pretrained(path)
    assert_holds(loaded, state, scales)
    assert same_weights(loaded, model)


def test_names_in_the_files(tmp_path, transformer):
    model = HunyuanVideoTransformer.from_pretrained(write_official(tmp_path, *official_fp8(transformer)))
    official = load_file(model.save_pretrained(tmp_path / "o.safetensors", "official"))
    assert official["single_blocks.0.linear1.weight"].dtype == torch.float8_e4m3fn
    assert official["single_blocks.0.linear1.weight_scale"].shape == ()
    diffusers = load_file(model.save_pretrained(tmp_path / "d.safetensors"))
    for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"):
        assert diffusers[f"single_transformer_blocks.0.{part}.weight"].dtype == torch.float8_e4m3fn
        assert diffusers[f"single_transformer_blocks.0.{part}.weight_scale"].shape == ()
    files = sorted(os.listdir(model.save_pretrained(tmp_path / "o", "official")))
    assert files == ["config.json", "mp_rank_00_model_states_fp8.pt", "mp_rank_00_model_states_fp8_map.pt"]


def test_different_scales_of_fused_projections_become_rows(tmp_path, transformer):
    """Somebody else quantized to_q, to_k and to_v apart: the fused linear keeps all three scales."""
    path = transformer.save_pretrained(tmp_path / "a")
    tensors = load_file(path / "diffusion_pytorch_model.safetensors")
    name, width = "transformer_blocks.0.attn.to_", TINY.hidden_size
    for i, c in enumerate("qkv"):
        weight, _ = ops.quantize_fp8(tensors[f"{name}{c}.weight"], granularity="tensor")
        tensors |= {f"{name}{c}.weight": weight, f"{name}{c}.weight_scale": torch.tensor(0.5 + i)}
    save_file(tensors, path / "diffusion_pytorch_model.safetensors")
    model = HunyuanVideoTransformer.from_pretrained(path)
    linear = model.double_blocks[0].img_attn_qkv
    assert [m for m in model.modules() if isinstance(m, FP8Linear)] == [linear]
    assert torch.equal(linear.scale, torch.tensor([0.5, 1.5, 2.5]).repeat_interleave(width).unsqueeze(1))


def test_golden_fp8_model(golden, tmp_path):
    """From the map to the output: the official FP8 computation within its tolerance."""
    case = golden("fp8_dit")
    state, x = case.part("weights"), case.part("in")
    scales = {name.removeprefix("scale."): tensor for name, tensor in x.items() if name.startswith("scale.")}
    for path, scale in scales.items():
        state[f"{path}.weight"] = (state[f"{path}.weight"] / scale).to(torch.float8_e4m3fn)
    model = HunyuanVideoTransformer.from_pretrained(write_official(tmp_path, state, scales))
    assert model.config == TransformerConfig(
        hidden_size=64,
        num_heads=4,
        double_blocks=2,
        single_blocks=2,
        rope_dims=(4, 6, 6),
        text_dim=48,
        pooled_text_dim=40,
    )
    with torch.no_grad():
        out = model(
            x["x"],
            x["t"],
            text=x["text_states"],
            text_mask=x["text_mask"],
            pooled_text=x["text_states_2"],
            guidance=x["guidance"],
        )
    torch.testing.assert_close(out, case.part("out")["x_fp8"], rtol=1e-4, atol=2e-5)


def test_quantize_while_loading(tmp_path, transformer):
    path = transformer.save_pretrained(tmp_path / "a")
    model = HunyuanVideoTransformer.from_pretrained(path, quantize="fp8", dtype=torch.bfloat16)
    linears = {p: m for p, m in model.named_modules() if isinstance(m, FP8Linear)}
    assert len(linears) == BLOCK_LINEARS
    for name, linear in linears.items():
        weight, scale = ops.quantize_fp8(transformer.get_submodule(name).weight, granularity="row")
        assert torch.equal(linear.weight.view(torch.uint8), weight.view(torch.uint8))
        assert torch.equal(linear.scale, scale)
        assert linear.bias.dtype == torch.bfloat16
    again = HunyuanVideoTransformer.from_pretrained(model.save_pretrained(tmp_path / "b"))
    assert same_weights(again, model)
    assert same_weights(HunyuanVideoTransformer.from_pretrained(tmp_path / "b", quantize="fp8"), model)


def test_quantizing_a_vae_is_refused(tmp_path, vae):
    with pytest.raises(UserError, match="the vae has none, load it without"):
        CausalVAE.from_pretrained(vae.save_pretrained(tmp_path / "a"), quantize="fp8")


def test_without_scales(tmp_path, transformer):
    state, scales = official_fp8(transformer)
    path = write_official(tmp_path, state, None)
    message = "holds FP8 weights without their scales .*put mp_rank_00_model_states_fp8_map.pt beside it"
    with pytest.raises(UserError, match=message):
        HunyuanVideoTransformer.from_pretrained(path)
    del scales["single_blocks.1.linear2"]
    with pytest.raises(UserError, match=r"FP8 weights without their scales \(single_blocks.1.linear2.weight_scale\)"):
        HunyuanVideoTransformer.from_pretrained(write_official(tmp_path, state, scales))
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="a.safetensors holds FP8 weights without their scales .* and 23 more"):
        HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors")


def test_bad_scales(tmp_path, transformer):
    state, scales = official_fp8(transformer)
    scales["single_blocks.0.linear2"] = torch.ones(7)
    with pytest.raises(UserError, match="the scale of 'single_blocks.0.linear2' has 7 values, expected 1 or 32"):
        HunyuanVideoTransformer.from_pretrained(write_official(tmp_path, state, scales))
    scales["extra.module"] = torch.ones(1)
    with pytest.raises(UserError, match=r"1 unexpected key \(extra.module.weight_scale\)"):
        HunyuanVideoTransformer.from_pretrained(write_official(tmp_path, state, scales))
    with pytest.raises(UserError, match="_map.pt is not a table of FP8 scales"):
        HunyuanVideoTransformer.from_pretrained(write_official(tmp_path, state, ["a"]))


@pytest.mark.parametrize(
    ("key", "dtype", "message"),
    [
        (
            "img_in.proj.weight",
            torch.float8_e4m3fn,
            "'img_in.proj.weight' is FP8 with a scale, which only linear layers",
        ),
        ("single_blocks.0.linear1.bias", torch.float8_e4m3fn, "unexpected key .*linear1.bias_scale"),
    ],
)
def test_fp8_where_it_cannot_be(tmp_path, transformer, key, dtype, message):
    state = transformer.state_dict()
    state[key] = state[key].to(dtype)
    state[f"{key}_scale"] = torch.ones(1)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=message):
        HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("everything", [False, True])
def test_plain_casts_are_the_numbers_they_hold(tmp_path, transformer, dtype, everything):
    """ComfyUI's and Kijai's FP8 files: only the blocks' weights, or every tensor down to biases and norms."""
    state = transformer.state_dict()
    block = {f"{path}.weight" for path, _ in fp8_linears(transformer)}
    state = {key: value.to(dtype) if everything or key in block else value for key, value in state.items()}
    save_file(state, tmp_path / "a.safetensors")
    model = HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors", dtype=torch.float32)
    for key, value in model.state_dict().items():
        if key in block:
            linear = model.get_submodule(key.removesuffix(".weight"))
            assert isinstance(linear, FP8Linear) and linear.weight.dtype == torch.float8_e4m3fn
            value = linear.weight.float() * linear.scale
            tiny = state[key].float().abs().amax(dim=1, keepdim=True) * 2**-15
            exact = state[key].float().abs() > tiny if dtype == torch.float8_e5m2 else torch.ones_like(value).bool()
            assert torch.equal(value[exact], state[key].float()[exact])
            torch.testing.assert_close(value, state[key].float(), rtol=0, atol=tiny.max().item())
        elif not key.endswith(".scale"):
            assert torch.equal(value, state[key].float()), key
    if everything:
        assert HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors").dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_scaled_file_of_comfyui_with_its_markers(tmp_path, transformer, dtype):
    state, wanted = {"model.diffusion_model.scaled_fp8": torch.empty(0, dtype=dtype)}, {}
    for key, value in transformer.state_dict().items():
        name = f"model.diffusion_model.{key}"
        if key.removesuffix(".weight") in dict(fp8_linears(transformer)):
            scale = value.abs().max() / torch.finfo(dtype).max
            state |= {
                name: (value / scale).to(dtype),
                f"{name.removesuffix('.weight')}.scale_weight": scale.reshape(()),
            }
            state[f"{name.removesuffix('.weight')}.scale_input"] = torch.ones(1)
            wanted[key] = state[name].float() * scale
        else:
            state[name] = value
    save_file(state, tmp_path / "a.safetensors")
    model = HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors", dtype=torch.float32)
    for key, value in wanted.items():
        linear = model.get_submodule(key.removesuffix(".weight"))
        atol = value.abs().amax().item() * 2**-15 if dtype == torch.float8_e5m2 else 0
        torch.testing.assert_close(linear.weight.float() * linear.scale, value, rtol=1e-6, atol=atol)


def test_a_plain_cast_is_converted_as_it_is(tmp_path, transformer):
    state = transformer.state_dict()
    block = {f"{path}.weight" for path, _ in fp8_linears(transformer)}
    save_file({key: value.to(torch.float8_e4m3fn) if key in block else value for key, value in state.items()},
              tmp_path / "a.safetensors")  # fmt: skip
    convert(tmp_path / "a.safetensors", tmp_path / "official", "official")
    assert [file.name for file in (tmp_path / "official").glob("*.pt")] == ["mp_rank_00_model_states_fp8.pt"]
    result = HunyuanVideoTransformer.from_pretrained(tmp_path / "official")
    assert same_weights(result, HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors"))
