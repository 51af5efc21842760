"""Mistakes of users: one line that names file and key and says what to do."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from hunyuan_video.errors import UserError
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def saved(tmp_path, transformer):
    return transformer.save_pretrained(tmp_path / "transformer")


def fails(path, message, model=HunyuanVideoTransformer, **options):
    with pytest.raises(UserError, match=message) as error:
        model.from_pretrained(path, **options)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def edit(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def test_nothing_there(tmp_path):
    fails(tmp_path / "nowhere", "does not exist; give a checkpoint file or folder")
    fails(tmp_path / ("x" * 300), "cannot read .*: File name too long")
    fails(tmp_path, "holds no weights of a transformer; expected one of diffusion_pytorch_model")
    (tmp_path / "a.onnx").write_bytes(b"ONNX")
    fails(tmp_path / "a.onnx", r"is no checkpoint; expected a \.safetensors")


def test_missing_keys(saved):
    edit(saved, lambda t: [t.pop(f"transformer_blocks.{i}.attn.norm_q.weight") for i in (0, 1)])
    fails(saved, r"2 missing keys \(transformer_blocks.0.attn.norm_q.weight, transformer_blocks.1.attn.norm_q.weight\)")


def test_missing_part_of_a_fused_key(saved):
    edit(saved, lambda t: t.pop("single_transformer_blocks.1.attn.to_k.weight"))
    fails(saved, r"1 missing key \(single_transformer_blocks.1.attn.to_k.weight\); the file is incomplete")


def test_missing_key_without_config(saved):
    (saved / "config.json").unlink()
    edit(saved, lambda t: t.pop("x_embedder.proj.weight"))
    fails(saved, "key 'img_in.proj.weight' is missing")


def test_extra_keys(saved):
    edit(saved, lambda t: t.update({f"image_embedder.{i}": torch.ones(1) for i in range(5)}))
    fails(saved, r"5 unexpected keys \(image_embedder.0, image_embedder.1, image_embedder.2 and 2 more\)")


def test_wrong_shape(saved):
    edit(saved, lambda t: t.update({"transformer_blocks.0.norm1.linear.bias": torch.zeros(191)}))
    fails(saved, r"key 'transformer_blocks.0.norm1.linear.bias' has shape \[191\], the config asks for \[192\]")


def test_wrong_shape_of_a_part(saved):
    edit(saved, lambda t: t.update({"transformer_blocks.0.attn.to_q.weight": torch.zeros(31, 32)}))
    fails(saved, r"key 'transformer_blocks.0.attn.to_q.weight' has shape \[31, 32\], the config asks for \[32, 32\]")
    edit(saved, lambda t: t.update({"transformer_blocks.0.attn.to_q.weight": torch.zeros(32, 31)}))
    fails(saved, r"attn.to_k.weight' \(float32 \[32, 32\]\) does not fit '.*attn.to_q.weight' \(float32 \[32, 31\]\)")


def test_the_other_component(tmp_path, saved, vae):
    fails(saved, "describes a HunyuanVideoTransformer3DModel|holds no HunyuanVideo vae", CausalVAE)
    vae.save_pretrained(tmp_path / "v.safetensors")
    fails(tmp_path / "v.safetensors", "holds no HunyuanVideo transformer; its keys are decoder")


def test_damaged_config(saved):
    config = json.loads((saved / "config.json").read_text())
    for text, message in {
        "{": "config.json is not valid JSON",
        "[]": "config.json holds a list, expected a JSON object",
        '{"_class_name": "FluxTransformer2DModel"}': "json describes a FluxTransformer2DModel, expected a Hunyuan",
        json.dumps(config | {"rope_axes_dim": [2, 2, 2]}): r"config.json: rope_dims \(2, 2, 2\) sum to 6",
        json.dumps(config | {"num_layers": "2"}): "config.json: ",
    }.items():
        (saved / "config.json").write_text(text)
        fails(saved, message)


def test_config_and_weights_of_different_sizes(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"num_layers": 3}))
    fails(saved, r"32 missing keys \(transformer_blocks.2")


def test_truncated(saved):
    content = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(content[: len(content) // 2])
    fails(saved, f"{WEIGHTS} is truncated: its header describes")


def test_shards_missing_or_mismatched(tmp_path, transformer):
    path = transformer.save_pretrained(tmp_path / "a", max_shard_size=60_000)
    first, second, *_ = sorted(path.glob("*.safetensors"))
    aside = first.rename(tmp_path / "aside")
    fails(path, f"names the shard {first.name}, which is missing")
    first.write_bytes(second.read_bytes())
    fails(path, "says that .* holds the key '.*', but it does not")
    aside.replace(first)
    for text in ('{"metadata": {}}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../aside"}}'):
        (path / f"{WEIGHTS}.index.json").write_text(text)
        fails(path, "it has no 'weight_map' from keys to file names")


def test_several_weight_files(tmp_path, transformer):
    for name in ("a", "b"):
        transformer.save_pretrained(tmp_path / f"{name}.safetensors")
    fails(tmp_path, r"holds several weight files \(a.safetensors, b.safetensors\); name one of them")


class Attack:
    """Malicious pickle: it would run a command when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_not_run(tmp_path, transformer):
    torch.save({"module": transformer.state_dict(), "x": Attack(tmp_path / "pwned")}, tmp_path / "a.pt")
    fails(tmp_path / "a.pt", "contains Python objects other than tensors and was not opened")
    assert not (tmp_path / "pwned").exists()


def test_damaged_pickles(tmp_path, transformer):
    path = tmp_path / "a.pt"
    torch.save({"module": transformer.state_dict()}, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    fails(path, "truncated, corrupt or in PyTorch's format from before 1.6")
    path.write_bytes(b"not a checkpoint")
    fails(path, "truncated, corrupt")
    path.write_bytes(pickle.dumps({"a": 1}))
    fails(path, "truncated, corrupt")
    torch.save([torch.ones(2)], path)
    fails(path, "holds a list, not a state dict")
    torch.save({"module": {"a": torch.ones(2), "step": 3}}, path)
    fails(path, "entry 'step' is a int, not a tensor")
    torch.save({"module": transformer.state_dict()}, path)
    fails(path, "has no 'ema' entry; its entries are module", load_key="ema")


def test_bad_arguments(saved):
    with pytest.raises(UserError, match="load with quantize='fp8'"):
        HunyuanVideoTransformer.from_pretrained(saved, dtype=torch.float8_e4m3fn)
    with pytest.raises(ValueError, match="quantize='int4' is unknown"):
        HunyuanVideoTransformer.from_pretrained(saved, quantize="int4")
