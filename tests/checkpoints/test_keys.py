"""The tensor names of both layouts: the released models' complete lists, and the way there and back for any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hunyuan_video.checkpoints.configs import infer_config, parse_config
from hunyuan_video.checkpoints.keys import diffusers_to_official, official_to_diffusers
from hunyuan_video.checkpoints.names import find_component
from hunyuan_video.checkpoints.safetensors_file import TensorInfo
from hunyuan_video.checkpoints.sources import MappedSource, StateSource, read
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, TransformerConfig, VAEConfig


@pytest.fixture
def golden_keys(golden_facts):
    """name of a key list -> {key: TensorInfo}."""

    def load(name):
        return {k: TensorInfo(tuple(v), torch.bfloat16) for k, v in golden_facts(name).items()}

    return load


class Shapes:
    """A source of which only names and shapes exist."""

    def __init__(self, infos):
        self.infos = infos


def shapes(infos):
    return {name: info.shape for name, info in infos.items()}


def meta_shapes(model_class, config):
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in model_class(config).state_dict().items()}


def test_golden_transformer_has_the_official_keys(golden_keys):
    assert meta_shapes(HunyuanVideoTransformer, TransformerConfig()) == shapes(golden_keys("official_13b_keys"))


def test_golden_transformer_keys_convert_both_ways(golden_keys):
    official, diffusers = golden_keys("official_13b_keys"), golden_keys("diffusers_13b_keys")
    assert shapes(MappedSource(Shapes(official), official_to_diffusers(official)).infos) == shapes(diffusers)
    assert shapes(MappedSource(Shapes(diffusers), diffusers_to_official(diffusers)).infos) == shapes(official)


@pytest.mark.parametrize("layout", ["official", "diffusers"])
def test_golden_vae_has_the_keys_of_both_layouts(golden_keys, layout):
    assert meta_shapes(CausalVAE, VAEConfig()) == shapes(golden_keys(f"{layout}_vae_keys"))


def test_golden_keys_are_recognized_and_give_the_released_config(golden_keys):
    for name, layout in (("official_13b_keys", "official"), ("diffusers_13b_keys", "diffusers")):
        infos = golden_keys(name)
        assert find_component(infos, "transformer")[0] == layout
        assert find_component(infos, "vae")[0] is None
        official = MappedSource(Shapes(infos), diffusers_to_official(infos)).infos if layout == "diffusers" else infos
        assert infer_config("transformer", official, "file") == TransformerConfig()
    infos = golden_keys("official_vae_keys")
    assert find_component(infos, "vae")[0] == "official"
    assert find_component(infos, "transformer")[0] is None
    assert infer_config("vae", infos, "file") == VAEConfig()


@st.composite
def transformer_configs(draw):
    heads, head_dim = draw(st.integers(1, 3)), draw(st.sampled_from([4, 8, 12]))
    side = 2 * (head_dim * 7 // 32)
    return TransformerConfig(
        hidden_size=heads * head_dim,
        num_heads=heads,
        double_blocks=draw(st.integers(0, 3)),
        single_blocks=draw(st.integers(1, 12)),
        mlp_ratio=draw(st.sampled_from([1, 2.5, 4, 8 / 3])),
        in_channels=draw(st.integers(1, 4)),
        out_channels=draw(st.integers(1, 4)),
        patch_size=(draw(st.integers(1, 2)), 2, 2),
        rope_dims=(head_dim - 2 * side, side, side),
        text_dim=draw(st.integers(1, 9)),
        pooled_text_dim=draw(st.integers(1, 9)),
        guidance_embed=draw(st.booleans()),
        refiner_depth=draw(st.integers(0, 3)),
    )


@settings(max_examples=25, deadline=None)
@given(config=transformer_configs())
def test_round_trip_is_bit_exact(config):
    state = {k: torch.randn(shape) for k, shape in meta_shapes(HunyuanVideoTransformer, config).items()}
    there = MappedSource(StateSource(state), official_to_diffusers(StateSource(state).infos))
    diffusers = {name: read(there, name) for name in there.infos}
    back = MappedSource(StateSource(diffusers), diffusers_to_official(there.infos))
    assert back.infos.keys() == state.keys()
    assert all(torch.equal(read(back, name), tensor) for name, tensor in state.items())
    assert parse_config("transformer", config.to_dict("diffusers"), "file") == config


@settings(max_examples=25, deadline=None)
@given(config=transformer_configs())
def test_config_follows_from_the_shapes(config):
    infos = {k: TensorInfo(s, torch.float32) for k, s in meta_shapes(HunyuanVideoTransformer, config).items()}
    result = infer_config("transformer", infos, "file")
    assert meta_shapes(HunyuanVideoTransformer, result) == shapes(infos)
    assert result.mlp_width == config.mlp_width
    assert result == config or result.mlp_ratio != config.mlp_ratio


@pytest.mark.parametrize(
    "config",
    [
        VAEConfig(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_groups=8, latent_channels=4),
        VAEConfig(block_out_channels=(32, 64, 64, 96), layers_per_block=3, in_channels=1, mid_attention=False),
    ],
)
def test_vae_config_follows_from_the_shapes(config):
    infos = {k: TensorInfo(s, torch.float32) for k, s in meta_shapes(CausalVAE, config).items()}
    assert infer_config("vae", infos, "file") == config


def test_row_ranges_cross_the_pieces():
    """Reading some rows of a stacked tensor touches only the pieces they lie in."""
    parts = {f"transformer_blocks.0.attn.to_{c}.weight": torch.randn(4, 4) for c in "qkv"}
    source = MappedSource(StateSource(parts), diffusers_to_official(StateSource(parts).infos))
    whole = torch.cat(list(parts.values()))
    for first in range(12):
        for last in range(first, 13):
            out = torch.empty(last - first, 4)
            source.read_into(out, "double_blocks.0.img_attn_qkv.weight", (first, last))
            assert torch.equal(out, whole[first:last])


COMFYUI = {
    "model.diffusion_model.double_blocks.3.img_attn.qkv.weight": "double_blocks.3.img_attn_qkv.weight",
    "model.diffusion_model.double_blocks.3.txt_attn.proj.bias": "double_blocks.3.txt_attn_proj.bias",
    "model.diffusion_model.double_blocks.3.img_attn.norm.query_norm.scale": "double_blocks.3.img_attn_q_norm.weight",
    "model.diffusion_model.double_blocks.3.txt_attn.norm.key_norm.weight": "double_blocks.3.txt_attn_k_norm.weight",
    "model.diffusion_model.double_blocks.3.img_mod.lin.weight": "double_blocks.3.img_mod.linear.weight",
    "model.diffusion_model.double_blocks.3.txt_mlp.0.weight": "double_blocks.3.txt_mlp.fc1.weight",
    "model.diffusion_model.double_blocks.3.txt_mlp.2.weight": "double_blocks.3.txt_mlp.fc2.weight",
    "model.diffusion_model.single_blocks.7.norm.key_norm.scale": "single_blocks.7.k_norm.weight",
    "model.diffusion_model.single_blocks.7.modulation.lin.bias": "single_blocks.7.modulation.linear.bias",
    "model.diffusion_model.single_blocks.7.linear1.scale_weight": "single_blocks.7.linear1.weight_scale",
    "model.diffusion_model.time_in.in_layer.weight": "time_in.mlp.0.weight",
    "model.diffusion_model.guidance_in.out_layer.bias": "guidance_in.mlp.2.bias",
    "model.diffusion_model.vector_in.in_layer.weight": "vector_in.in_layer.weight",
    "model.diffusion_model.txt_in.t_embedder.out_layer.weight": "txt_in.t_embedder.mlp.2.weight",
    "model.diffusion_model.txt_in.c_embedder.in_layer.weight": "txt_in.c_embedder.linear_1.weight",
    "model.diffusion_model.txt_in.individual_token_refiner.blocks.1.self_attn.qkv.bias": (
        "txt_in.individual_token_refiner.blocks.1.self_attn_qkv.bias"
    ),
    "model.diffusion_model.txt_in.individual_token_refiner.blocks.1.mlp.2.bias": (
        "txt_in.individual_token_refiner.blocks.1.mlp.fc2.bias"
    ),
    "model.diffusion_model.final_layer.adaLN_modulation.1.weight": "final_layer.adaLN_modulation.1.weight",
}


def test_comfyui_spelling():
    others = ["vae.decoder.conv_in.conv.weight", "text_encoders.llama.embed_tokens.weight", "scaled_fp8"]
    layout, names = find_component([*COMFYUI, *others], "transformer")
    assert layout == "official"
    assert names == {official: name for name, official in COMFYUI.items()}
    assert find_component([*COMFYUI, *others], "vae") == ("official", {"decoder.conv_in.conv.weight": others[0]})


def test_official_spelling_is_left_alone(transformer):
    names = list(transformer.state_dict())
    assert find_component(names, "transformer") == ("official", {name: name for name in names})
