"""Files as other programs write them: wrappers around names and state dicts, ComfyUI's VAE."""

import re

import pytest
import torch
from helpers.tiny_models import TINY, TINY_VAE, randomized, same_weights
from safetensors.torch import save_file

from hunyuan_video.checkpoints.names import vae_from_comfyui
from hunyuan_video.errors import UserError
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    return randomized(HunyuanVideoTransformer(TINY))


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return randomized(CausalVAE(TINY_VAE))


@pytest.mark.parametrize(
    "prefix",
    ["model.diffusion_model.", "module.", "_orig_mod.", "module._orig_mod.", "ema_state_dict.", "state_dict.module.",
     "transformer.transformer.", "model.", "net."],
)  # fmt: skip
def test_outer_prefixes_of_the_transformer(tmp_path, transformer, prefix):
    state = {f"{prefix}{key}": value for key, value in transformer.state_dict().items()}
    others = {"first_stage_model.decoder.conv_in.conv.weight": torch.zeros(1), "step": torch.ones(1)}
    save_file(state if prefix == "_orig_mod." else state | others, tmp_path / "a.safetensors")  # is no prefix
    assert same_weights(HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors"), transformer)


def test_compiled_blocks_keep_their_names(tmp_path, transformer):
    state = {re.sub(r"(blocks\.\d+)\.", r"\1._orig_mod.", key): v for key, v in transformer.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    assert same_weights(HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors"), transformer)


def test_of_trained_weights_and_their_average_the_trained_are_taken(tmp_path, transformer):
    state = transformer.state_dict()
    both = {f"ema.{key}": value + 1 for key, value in state.items()} | {f"module.{k}": v for k, v in state.items()}
    save_file(both, tmp_path / "a.safetensors")
    assert same_weights(HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors"), transformer)


@pytest.mark.parametrize(
    "wrap",
    [lambda s: {"ema_state_dict": s, "step": 3}, lambda s: {"state_dict": {"module": s}, "epoch": 1},
     lambda s: {"model": {f"module.{key}": value for key, value in s.items()}}, lambda s: {"generator_ema": s}],
)  # fmt: skip
def test_wrapped_state_dicts(tmp_path, transformer, wrap):
    torch.save(wrap(transformer.state_dict()), tmp_path / "a.pt")
    assert same_weights(HunyuanVideoTransformer.from_pretrained(tmp_path / "a.pt"), transformer)


def test_load_key_finds_the_average_under_its_other_names(tmp_path, transformer):
    other = {key: value + 1 for key, value in transformer.state_dict().items()}
    torch.save({"model": other, "ema_state_dict": transformer.state_dict()}, tmp_path / "a.pt")
    assert same_weights(HunyuanVideoTransformer.from_pretrained(tmp_path / "a.pt", load_key="ema"), transformer)
    with pytest.raises(UserError, match="has no 'ema' entry; its entries are model"):
        torch.save({"model": other}, tmp_path / "b.pt")
        HunyuanVideoTransformer.from_pretrained(tmp_path / "b.pt", load_key="ema")


# ComfyUI's names of the released VAE's tensors (conv_in, blocks 0 to 3, middle, out), and the official ones.
COMFYUI_VAE = {
    "encoder.conv_in.conv.weight": "encoder.conv_in.conv.weight",
    "encoder.down.0.block.1.conv2.conv.bias": "encoder.down_blocks.0.resnets.1.conv2.conv.bias",
    "encoder.down.1.block.0.nin_shortcut.conv.weight": "encoder.down_blocks.1.resnets.0.conv_shortcut.conv.weight",
    "encoder.down.2.downsample.conv.conv.weight": "encoder.down_blocks.2.downsamplers.0.conv.conv.weight",
    "encoder.mid.block_2.norm1.weight": "encoder.mid_block.resnets.1.norm1.weight",
    "encoder.norm_out.weight": "encoder.conv_norm_out.weight",
    "decoder.mid.attn_1.norm.bias": "decoder.mid_block.attentions.0.group_norm.bias",
    "decoder.mid.attn_1.k.weight": "decoder.mid_block.attentions.0.to_k.weight",
    "decoder.mid.attn_1.proj_out.weight": "decoder.mid_block.attentions.0.to_out.0.weight",
    "decoder.up.0.block.2.conv1.conv.weight": "decoder.up_blocks.3.resnets.2.conv1.conv.weight",
    "decoder.up.3.upsample.conv.conv.weight": "decoder.up_blocks.0.upsamplers.0.conv.conv.weight",
    "decoder.mid_block.attentions.0.query.weight": "decoder.mid_block.attentions.0.to_q.weight",
    "post_quant_conv.weight": "post_quant_conv.weight",
}


def test_names_of_comfyuis_vae():
    assert {name: vae_from_comfyui(name, 4) for name in COMFYUI_VAE} == COMFYUI_VAE


def test_attention_of_a_vae_as_convolutions(tmp_path, vae):
    linear = re.compile(r"attentions\.0\.to_(q|k|v|out\.0)\.weight$")
    state = {key: v[:, :, None, None] if linear.search(key) else v for key, v in vae.state_dict().items()}
    prefixed = {f"first_stage_model.{key}": value.contiguous() for key, value in state.items()}
    save_file(prefixed, tmp_path / "a.safetensors")
    vae.save_pretrained(tmp_path / "config")
    (tmp_path / "config" / "config.json").rename(tmp_path / "config.json")
    assert same_weights(CausalVAE.from_pretrained(tmp_path / "a.safetensors"), vae)
