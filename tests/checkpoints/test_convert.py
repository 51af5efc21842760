"""Conversion between layouts, of one model and of whole pipelines."""

from __future__ import annotations

import json
import os

import pytest
import torch
from helpers.tiny_models import same_bits, same_weights
from safetensors.torch import load_file

from hunyuan_video.checkpoints import components_at, convert
from hunyuan_video.errors import UserError
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_round_trip_is_bit_exact(tmp_path, transformer):
    official = transformer.save_pretrained(tmp_path / "official", "official")
    assert convert(official, tmp_path / "diffusers", "diffusers") == [tmp_path / "diffusers"]
    convert(tmp_path / "diffusers", tmp_path / "back", "official")
    a, b = (
        torch.load(tmp_path / name / "mp_rank_00_model_states.pt", weights_only=True)["module"]
        for name in ("official", "back")
    )
    assert a.keys() == b.keys() and all(same_bits(a[name], b[name]) for name in a)
    assert json.loads((official / "config.json").read_text()) == json.loads((tmp_path / "back/config.json").read_text())


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_single_files(tmp_path, vae, name):
    src = vae.save_pretrained(tmp_path / "vae")
    assert convert(str(src), str(tmp_path / name), "official") == [tmp_path / name]
    (src / "config.json").rename(tmp_path / "config.json")  # .pt files have no place for it
    loaded = CausalVAE.from_pretrained(tmp_path / name)
    assert loaded.config == vae.config and same_weights(loaded, vae)


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16"])
def test_dtype_and_shards(tmp_path, transformer, dtype):
    src = transformer.save_pretrained(tmp_path / "a.safetensors", "official")
    [path] = convert(src, tmp_path / "b", "diffusers", dtype, max_shard_size=40_000)
    assert len(list(path.glob("*.safetensors"))) > 2
    assert same_weights(HunyuanVideoTransformer.from_pretrained(path), transformer.bfloat16())


def test_stored_dtypes_stay(tmp_path, transformer):
    transformer.bfloat16().final_layer.float()
    src = transformer.save_pretrained(tmp_path / "a.safetensors", "official")
    convert(src, tmp_path / "b.safetensors", "official")
    a, b = load_file(src), load_file(tmp_path / "b.safetensors")
    assert a.keys() == b.keys() and all(same_bits(a[name], b[name]) for name in a)


@pytest.fixture
def official_root(tmp_path, transformer, vae):
    """ckpts/ as people download it."""
    root = tmp_path / "ckpts"
    transformer.save_pretrained(root / "hunyuan-video-t2v-720p" / "transformers", "official")
    vae.save_pretrained(root / "hunyuan-video-t2v-720p" / "vae", "official")
    for name, architecture in (("text_encoder", "LlamaModel"), ("text_encoder_2", "CLIPModel")):
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps({"architectures": [architecture]}))
        (root / name / "model.safetensors").write_bytes(name.encode())
        (root / name / "tokenizer.json").write_text("{}")
        (root / name / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": f"{architecture}Tokenizer"}))
    (root / "README.md").write_text("hello")
    return root


def test_pipeline_to_diffusers_and_back(tmp_path, official_root, transformer, vae):
    assert components_at(official_root) == ("transformer", "vae")
    there = tmp_path / "diffusers"
    assert convert(official_root, there, "diffusers") == [there / "transformer", there / "vae"]
    weights = "diffusion_pytorch_model.safetensors"
    assert files(there) == sorted(
        ["README.md", "model_index.json", "scheduler/scheduler_config.json"]
        + [f"{part}/{name}" for part in ("transformer", "vae") for name in ("config.json", weights)]
        + [
            f"{part}/{name}"
            for part in ("text_encoder", "text_encoder_2")
            for name in ("config.json", "model.safetensors")
        ]
        + [
            f"{part}/{name}"
            for part in ("tokenizer", "tokenizer_2")
            for name in ("tokenizer.json", "tokenizer_config.json")
        ]
    )
    index = json.loads((there / "model_index.json").read_text())
    assert index["transformer"] == ["diffusers", "HunyuanVideoTransformer3DModel"]
    assert index["vae"] == ["diffusers", "AutoencoderKLHunyuanVideo"]
    assert index["text_encoder_2"] == ["transformers", "CLIPModel"]
    assert index["tokenizer"] == ["transformers", "LlamaModelTokenizer"]
    assert json.loads((there / "scheduler/scheduler_config.json").read_text())["shift"] == 7.0
    assert same_weights(HunyuanVideoTransformer.from_pretrained(there), transformer)
    assert same_weights(CausalVAE.from_pretrained(there), vae)

    convert(there, tmp_path / "back", "official")
    assert files(tmp_path / "back") == files(official_root)
    assert same_weights(HunyuanVideoTransformer.from_pretrained(tmp_path / "back"), transformer)


def test_diffusers_pipeline_with_another_dtype_keeps_its_settings(tmp_path, official_root, transformer):
    convert(official_root, tmp_path / "a", "diffusers")
    (tmp_path / "a" / "sampling.json").write_text('{"fps": 8}')
    (tmp_path / "a" / "scheduler" / "scheduler_config.json").write_text('{"shift": 3.0}')
    convert(tmp_path / "a", tmp_path / "b", "diffusers", "bfloat16")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    for name in ("sampling.json", "model_index.json", "scheduler/scheduler_config.json"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()
    assert same_weights(HunyuanVideoTransformer.from_pretrained(tmp_path / "b"), transformer.bfloat16())


def test_a_failed_conversion_leaves_nothing(tmp_path, official_root):
    weights = official_root / "hunyuan-video-t2v-720p" / "vae" / "pytorch_model.pt"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"vae/pytorch_model.pt is truncated"):
        convert(official_root, tmp_path / "new", "diffusers")
    assert os.listdir(tmp_path) == ["ckpts"]


def test_the_source_is_checked(tmp_path, transformer):
    state = transformer.state_dict()
    del state["single_blocks.0.q_norm.weight"]
    torch.save({"module": state}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a.pt: 1 missing key \(single_blocks.0.q_norm.weight\)"):
        convert(tmp_path / "a.pt", tmp_path / "b", "diffusers")
    assert os.listdir(tmp_path) == ["a.pt"]


def test_bad_arguments(tmp_path, official_root, vae):
    with pytest.raises(ValueError, match="layout='comfy' is unknown"):
        convert(official_root, tmp_path / "a", "comfy")
    with pytest.raises(ValueError, match="dtype='int8' is unknown; use one of float32, bfloat16, float16"):
        convert(official_root, tmp_path / "a", "diffusers", "int8")
    with pytest.raises(UserError, match="source and destination are both"):
        convert(official_root, f"{official_root}/", "diffusers")
    with pytest.raises(UserError, match="holds transformer and vae, too much for a.safetensors; give a folder"):
        convert(official_root, tmp_path / "a.safetensors", "diffusers")
    with pytest.raises(UserError, match="does not exist"):
        convert(tmp_path / "nowhere", tmp_path / "a", "diffusers")
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds neither a HunyuanVideo transformer nor its VAE; its keys are a$"):
        convert(tmp_path / "a.pt", tmp_path / "b", "diffusers")
    with pytest.raises(UserError, match="holds other things"):
        convert(official_root, tmp_path, "diffusers")
