"""Conversion between layouts, of one model and of whole pipelines."""

from __future__ import annotations

import ast
import json
import os
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from helpers.tiny_models import same_bits, same_weights
from safetensors.torch import load_file

import hunyuan_video
from hunyuan_video.checkpoints import components_at, convert
from hunyuan_video.checkpoints.configs import read_grid
from hunyuan_video.checkpoints.layout import BUNDLED
from hunyuan_video.checkpoints.tokenizer import load_tokenizer
from hunyuan_video.errors import Notice, UserError
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
    with pytest.raises(ValueError, match="dtype='int4' is unknown; use one of float32, bfloat16, float16, fp8, int8"):
        convert(official_root, tmp_path / "a", "diffusers", "int4")
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


def tokenizer_of(folder, tokenizer_class: str | None, **config):
    """A byte-level tokenizer, as Llama 3 has one, that knows a few letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(letters | {"<s>": 256, "</s>": 257}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 256)])
    folder.mkdir(exist_ok=True, parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    stated = {"bos_token": "<s>", "eos_token": "</s>", **config}
    stated |= {"tokenizer_class": tokenizer_class} if tokenizer_class else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))


@pytest.mark.parametrize("stated", [None, "LlamaTokenizerFast", "PreTrainedTokenizerFast"])
def test_tokenizers_are_read_by_transformers_as_here(tmp_path, official_root, stated):
    transformers = pytest.importorskip("transformers")
    tokenizer_of(official_root / "text_encoder", stated)
    tokenizer_of(official_root / "text_encoder_2", None)
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always", Notice)
        convert(official_root, tmp_path / "made", "diffusers")
    texts = [str(notice.message) for notice in notices if "drops the spaces" in str(notice.message)]
    assert len(texts) == (stated == "LlamaTokenizerFast")
    index = json.loads((tmp_path / "made/model_index.json").read_text())
    assert index["tokenizer"] == index["tokenizer_2"] == ["transformers", "PreTrainedTokenizerFast"]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "made/tokenizer")
    ours = load_tokenizer(official_root / "text_encoder")
    text = "a cat walks\non  two legs"
    expected = ours([text], 40)
    used = int(expected.mask[0].sum())
    padded = (
        theirs(text, padding="max_length", max_length=40)["input_ids"] if stated is None else theirs(text).input_ids
    )
    assert padded[:used] == expected.ids[0, :used].tolist() and theirs.decode(padded[1:used]) == text
    if stated is None:
        assert theirs.padding_side == "right" and set(padded[used:]) == {257}


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_the_schedulers_shift_goes_there_and_back(tmp_path, official_root, shift):
    (official_root / "sampling.json").write_text(json.dumps({"flow_shift": 3.0}))
    convert(official_root, tmp_path / "made", "diffusers")
    config = tmp_path / "made" / "scheduler" / "scheduler_config.json"
    assert json.loads(config.read_text())["shift"] == 3.0  # that of the checkpoint's own settings
    config.write_text(json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": shift}))
    convert(tmp_path / "made", tmp_path / "official", "official")
    convert(tmp_path / "official", tmp_path / "back", "diffusers")
    assert json.loads((tmp_path / "back" / "scheduler" / "scheduler_config.json").read_text())["shift"] == shift


def test_conversions_are_the_same_bytes_each_time(tmp_path, official_root):
    for name in ("one", "two"):
        convert(official_root, tmp_path / name, "diffusers")
        convert(tmp_path / name, tmp_path / f"{name}.official", "official")
    for name in ("one", "one.official"):
        other = tmp_path / name.replace("one", "two")
        assert all((tmp_path / name / file).read_bytes() == (other / file).read_bytes() for file in files(other))


def test_what_convert_makes_can_be_sampled(tmp_path, capsys):
    """The bundled checkpoint, in the official layout and back: our own command takes it, to the same latents."""
    from hunyuan_video.cli import main

    convert("tiny", tmp_path / "official", "official")
    convert(tmp_path / "official", tmp_path / "back", "diffusers")
    common = ["--seed", "1", "--num-inference-steps", "1", "--num-frames", "1", "--device", "cpu"]
    for model in ("tiny", str(tmp_path / "official"), str(tmp_path / "back")):
        out = tmp_path / f"{len(model)}.safetensors"
        assert main(["sample", "a red circle", "--model", model, *common, "-o", str(out)]) == 0, capsys.readouterr().err
    latents = [load_file(file)["latents"] for file in sorted(tmp_path.glob("*.safetensors"))]
    assert len(latents) == 3 and all(same_bits(latent, latents[0]) for latent in latents)
    assert json.loads((tmp_path / "back/scheduler/scheduler_config.json").read_text())["shift"] == 1.0


def test_models_by_concatenation_are_named(tmp_path):
    shutil.copytree(BUNDLED["tiny"], tmp_path / "model")
    path = tmp_path / "model" / "transformer" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "in_channels": 33}))
    with pytest.raises(UserError, match="takes 33 channels and makes 16: .* by concatenation"):
        read_grid(tmp_path / "model")


def test_one_file_knows_the_names_of_a_checkpoints_files():
    names = {"hunyuan-video-t2v-720p", "model_index.json", "sampling.json", "scheduler_config.json", "transformers/"}
    package = Path(hunyuan_video.__file__).parent
    knowing = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert knowing == {"checkpoints/layout.py"}
