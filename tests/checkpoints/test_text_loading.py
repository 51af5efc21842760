"""Text encoders from folders: layouts that exist in the wild, and one clear line for everything that is wrong."""

from __future__ import annotations

import builtins
import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from hunyuan_video.checkpoints.text import (
    load_clip_encoder,
    load_text_encoder,
    save_clip_model,
    save_llama_model,
    save_tokenizer,
)
from hunyuan_video.checkpoints.tokenizer import load_tokenizer
from hunyuan_video.errors import UserError
from hunyuan_video.models.text import (
    ClipTextConfig,
    ClipTextModel,
    LlamaConfig,
    LlamaModel,
    PromptTemplate,
    Template,
)
from hunyuan_video.models.text.foreign import ForeignLanguageModel

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "a", "red", "circle", "moves"]
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = dict(vocab_size=8, hidden_size=16, num_hidden_layers=3, num_attention_heads=2)
FRAMES = PromptTemplate(Template("a {}", 1), Template("a {}", 1), text_length=5)


@pytest.fixture
def llama_folder(tmp_path):
    model = LlamaModel(LlamaConfig(**SIZES, intermediate_size=24, num_key_value_heads=1))
    save_llama_model(model, tmp_path / "llm", positions=32, special=SPECIAL, dtype=torch.float32)
    save_words(tmp_path / "llm")
    return tmp_path / "llm"


@pytest.fixture
def clip_folder(tmp_path):
    model = ClipTextModel(ClipTextConfig(**SIZES, intermediate_size=24, eos_token_id=2, max_position_embeddings=9))
    save_clip_model(model, tmp_path / "clip", special=SPECIAL, dtype=torch.float32)
    save_words(tmp_path / "clip")
    return tmp_path / "clip"


def save_words(folder, **config):
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    save_tokenizer(tokenizer, {"tokenizer_class": "PreTrainedTokenizerFast"} | special | config, folder)


def rewrite(folder, change):
    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}  # older versions map the file
    save_file(change(tensors), path)


def hidden(folder):
    return load_text_encoder(folder, None, FRAMES)("red circle").hidden


def test_round_trip_and_dtype(llama_folder):
    encoder = load_text_encoder(llama_folder, llama_folder, FRAMES)
    saved = load_file(llama_folder / "model.safetensors")
    for name, tensor in encoder.model.state_dict().items():
        assert torch.equal(tensor, saved[name])
    half = load_text_encoder(llama_folder, None, FRAMES, torch.bfloat16)
    assert half("red circle").hidden.dtype == torch.bfloat16
    assert encoder("red circle").hidden.shape == (1, 5, 16)


def test_sharded_checkpoint(llama_folder):
    expected = hidden(llama_folder)
    tensors = load_file(llama_folder / "model.safetensors")
    names, index = list(tensors), {}
    for number, part in enumerate((names[:7], names[7:])):
        file = f"model-{number + 1:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, llama_folder / file)
        index |= dict.fromkeys(part, file)
    (llama_folder / "model.safetensors").unlink()
    (llama_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert torch.equal(hidden(llama_folder), expected)
    (llama_folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"index.json names the shard model-00002-of-00002.safetensors, which is missing"
    ):
        hidden(llama_folder)


@pytest.mark.parametrize("prefix", ["model.", "language_model.model.", "model.language_model."])
def test_keys_of_larger_checkpoints(llama_folder, prefix):
    expected = hidden(llama_folder)
    extra = {
        "language_model.lm_head.weight": torch.ones(2),
        "vision_tower.embeddings.weight": torch.ones(2),
        prefix + "rotary_emb.inv_freq": torch.ones(2),
    }
    rewrite(llama_folder, lambda tensors: {prefix + k: v for k, v in tensors.items()} | extra)
    config = json.loads((llama_folder / "config.json").read_text())
    (llama_folder / "config.json").write_text(json.dumps({"model_type": "llava", "text_config": config}))
    assert torch.equal(hidden(llama_folder), expected)


def test_clip_keys_of_both_transformers_versions(clip_folder):
    with_prefix = load_clip_encoder(clip_folder)("red </s>").pooled
    rewrite(clip_folder, lambda tensors: {k.removeprefix("text_model."): v for k, v in tensors.items()})
    assert torch.equal(load_clip_encoder(clip_folder)("red </s>").pooled, with_prefix)
    assert load_clip_encoder(clip_folder).max_length == 9


def test_transformers_loads_what_we_save(llama_folder, clip_folder):
    transformers = pytest.importorskip("transformers")
    theirs, ids = transformers.LlamaModel.from_pretrained(llama_folder).float(), torch.tensor([[1, 4, 5, 6]])
    ours = load_text_encoder(llama_folder, None, FRAMES).model
    torch.testing.assert_close(theirs(ids).last_hidden_state, ours(ids), atol=1e-5, rtol=1e-5)
    theirs = transformers.CLIPTextModel.from_pretrained(clip_folder).float()
    ids = torch.tensor([[1, 5, 2, 0]])
    pooled = load_clip_encoder(clip_folder).encode_ids(ids)
    torch.testing.assert_close(theirs(ids).pooler_output, pooled, atol=1e-5, rtol=1e-5)
    words = transformers.AutoTokenizer.from_pretrained(clip_folder)
    assert words("a red circle")["input_ids"] == [4, 5, 6]


def test_begin_token_follows_llama_tokenizer_config(llama_folder):
    for config, expected in (
        ({"tokenizer_class": "LlamaTokenizerFast"}, [1, 5, 0]),
        ({"tokenizer_class": "LlamaTokenizerFast", "bos_token": {"content": "<s>"}}, [1, 5, 0]),
        ({"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, [5, 0, 0]),
        ({"tokenizer_class": "LlamaTokenizerFast", "add_eos_token": True}, [1, 5, 2]),
        ({"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True}, [5, 0, 0]),
    ):
        save_words(llama_folder, **config)
        assert load_tokenizer(llama_folder)(["red"], 3).ids.tolist() == [expected]


def test_other_model_types_go_through_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen2Config(**SIZES, intermediate_size=24, num_key_value_heads=1)
    theirs = transformers.Qwen2Model(config).eval()
    theirs.save_pretrained(tmp_path)
    save_words(tmp_path)
    encoder = load_text_encoder(tmp_path, None, FRAMES, torch.float32)
    assert isinstance(encoder.model, ForeignLanguageModel)
    ids = torch.tensor([[4, 5, 6, 0, 0, 0]])
    with torch.no_grad():
        expected = theirs(ids, attention_mask=(ids > 0).long(), output_hidden_states=True).hidden_states[-3]
    torch.testing.assert_close(encoder("red circle").hidden[:, :2], expected[:, 1:3], atol=1e-5, rtol=1e-5)


def test_missing_transformers_is_one_line_with_the_command(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "transformers":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UserError, match=r"has no tokenizer.json, which needs transformers: pip install"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("token", [3, ["</s>"], {"content": 1.5}])
def test_a_special_token_that_is_no_text(llama_folder, tmp_path, token):
    shutil.copy(llama_folder / "tokenizer.json", tmp_path)
    for name in ("bos_token", "pad_token"):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({name: token}))
        with pytest.raises(UserError, match=f"{name} of its tokenizer must be a text, got .*; restore the file"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize("load", [load_text_encoder, load_clip_encoder])
def test_a_model_type_that_is_no_text(llama_folder, load):
    path = llama_folder / "config.json"
    for part in ({"model_type": [-1, -1]}, {"text_config": {"model_type": {}}}, {"model_type": None}):
        path.write_text(json.dumps({**json.loads(path.read_text()), **part}))
        with pytest.raises(UserError, match="config.json: model_type must be a text, got .*; restore the file"):
            load(llama_folder)


def test_a_folder_without_a_tokenizer_says_so(tmp_path):
    for name in ("text_encoder", "text_encoder_2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer_config.json").write_text("{}")
        missing = tmp_path / name.replace("text_encoder", "tokenizer")
        with pytest.raises(UserError, match=rf"{name} holds no tokenizer .*, and {missing} is missing; copy or"):
            load_tokenizer(tmp_path / name)


def test_encoding_imports_no_heavy_package(llama_folder):
    code = (
        "import sys; from hunyuan_video.checkpoints.text import load_text_encoder; "
        f"load_text_encoder({str(llama_folder)!r})('red circle'); "
        "print([name for name in ('transformers', 'diffusers', 'torch._dynamo') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def drop(name):
    return lambda tensors: {k: v for k, v in tensors.items() if k != name}


DAMAGE = {
    "missing key": (drop("norm.weight"), r"model.safetensors: missing key norm.weight; the checkpoint is incomplete"),
    "extra key": (lambda t: t | {"layers.9.x": torch.ones(1)}, r"key layers.9.x is not in the model that config.json"),
    "wrong shape": (
        lambda t: t | {"norm.weight": torch.ones(3)},
        r"key norm.weight has shape \[3\], config.json asks for \[16\]",
    ),
    "other model": (drop("embed_tokens.weight"), r"no key ...embed_tokens.weight in its weights; this is not"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_weights(llama_folder, damage):
    change, message = DAMAGE[damage]
    rewrite(llama_folder, change)
    with pytest.raises(UserError, match=message) as caught:
        hidden(llama_folder)
    assert "\n" not in str(caught.value)


def test_truncated_file(llama_folder):
    path = llama_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model.safetensors is truncated: .* download it again"):
        hidden(llama_folder)


def test_missing_or_broken_files(llama_folder, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        load_text_encoder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        load_text_encoder(llama_folder, tmp_path / "nowhere")
    (llama_folder / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(UserError, match=r"tokenizer.json: not a tokenizer .* download it again"):
        hidden(llama_folder)
    (llama_folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json is not valid JSON"):
        hidden(llama_folder)
    (llama_folder / "config.json").unlink()
    with pytest.raises(UserError, match="config.json: missing"):
        hidden(llama_folder)


def test_no_safetensors(llama_folder):
    (llama_folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no model.safetensors; text encoders are read from safetensors only"):
        hidden(llama_folder)


FP8 = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}


@pytest.mark.parametrize("dtype", FP8.values(), ids=FP8)
@pytest.mark.parametrize("everything", [False, True])
def test_plain_fp8_casts_are_the_numbers_they_hold(llama_folder, clip_folder, dtype, everything):
    for folder, load in ((llama_folder, load_text_encoder), (clip_folder, load_clip_encoder)):
        cast = lambda key, value: value.to(dtype) if everything or value.ndim == 2 else value  # noqa: E731
        rewrite(folder, lambda tensors, cast=cast: {key: cast(key, value) for key, value in tensors.items()})
        wanted = load_file(folder / "model.safetensors")
        result = load(folder).model.state_dict()
        for key, value in result.items():
            stored = wanted.get(key, wanted.get(f"text_model.{key}"))
            assert value.dtype == (torch.bfloat16 if everything else torch.float32)
            assert torch.equal(value.float(), stored.float().to(value.dtype).float())


@pytest.mark.parametrize("kind", ["scale_weight", "weight_scale row", "weight_scale_inv"])
def test_scaled_fp8_with_its_markers(llama_folder, kind):
    wanted = {}

    def change(tensors):
        out = {"scaled_fp8": torch.empty(2, dtype=torch.float8_e4m3fn)}
        for key, value in tensors.items():
            if not key.endswith("proj.weight"):
                out[key] = wanted[key] = value
                continue
            layer = key.removesuffix(".weight")
            if kind == "weight_scale_inv":  # blocks of 8 x 8
                rows, columns = -(-value.shape[0] // 8), -(-value.shape[1] // 8)
                scale = torch.rand(rows, columns) * 0.01 + 0.001
                whole = torch.kron(scale, torch.ones(8, 8))[: value.shape[0], : value.shape[1]]
            else:
                scale = (
                    value.abs().amax(dim=1, keepdim=True) / 448
                    if "row" in kind
                    else (value.abs().max() / 448).reshape(1)
                )
                whole = scale
            out[key] = (value / whole).to(torch.float8_e4m3fn)
            out[f"{layer}.{kind.split()[0]}"], out[f"{layer}.scale_input"] = scale, torch.ones(1)
            wanted[key] = out[key].float() * whole
        return out

    rewrite(llama_folder, change)
    for key, value in load_text_encoder(llama_folder, None, FRAMES).model.state_dict().items():
        torch.testing.assert_close(value, wanted[key], rtol=1e-6, atol=0)


def test_fp8_whose_scales_are_lost_or_do_not_fit(llama_folder):
    original = load_file(llama_folder / "model.safetensors")
    key = "layers.0.self_attn.q_proj.weight"
    scaled = (original[key] / original[key].abs().max() * 448).to(torch.float8_e4m3fn)
    rewrite(llama_folder, lambda tensors: tensors | {key: scaled})
    with pytest.raises(UserError, match=r"without their scales \(layers.0.self_attn.q_proj.weight_scale\)"):
        load_text_encoder(llama_folder, None, FRAMES)
    rewrite(llama_folder, lambda tensors: tensors | {"layers.0.self_attn.q_proj.weight_scale": torch.ones(7)})
    with pytest.raises(UserError, match=r"of shape \[7\] fits no weight of 16 x 16"):
        load_text_encoder(llama_folder, None, FRAMES)
