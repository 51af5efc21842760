"""Relatives of the released model and other forms of its files, each by its list of keys, with small random weights."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.random_checkpoint import write_random_checkpoint
from helpers.tiny_models import TINY, randomized, same_weights
from safetensors.torch import save_file

from hunyuan_video.checkpoints.gguf_file import GGUFFile
from hunyuan_video.cli.entry import main
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.sampling.models import read_defaults


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return randomized(HunyuanVideoTransformer(TINY)).state_dict()


def config_beside(folder):
    HunyuanVideoTransformer(TINY).save_pretrained(folder / "model")
    (folder / "model" / "config.json").rename(folder / "config.json")


def written(path, state, kind_of, prefix=""):
    """The state as a GGUF file; kind_of: name -> type of the tensor. Returns what its values become."""
    gguf = pytest.importorskip("gguf")
    from gguf.quants import dequantize, quantize

    writer, values = gguf.GGUFWriter(path, "hyvid"), {}
    for name, tensor in state.items():
        kind = gguf.GGMLQuantizationType[kind_of(name, tensor)]
        data = quantize(tensor.float().numpy(), kind)
        writer.add_tensor(prefix + name, data, raw_dtype=kind)
        values[name] = torch.from_numpy(dequantize(data, kind).copy()).view(tensor.shape)
    finish(writer)
    return values


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def as_people_quantize(kind):
    """Linears of the blocks in few bits, all else as the tools leave it."""

    def kind_of(name, tensor):
        return kind if "blocks" in name and tensor.ndim == 2 and "txt_in" not in name else "F32"

    return kind_of


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q4_0"])
def test_gguf_files(tmp_path, state, kind):
    config_beside(tmp_path)
    prefix = "model.diffusion_model." if kind == "Q8_0" else ""
    values = written(tmp_path / "a.gguf", state, as_people_quantize(kind), prefix)
    model = HunyuanVideoTransformer.from_pretrained(tmp_path / "a.gguf", dtype=torch.float32)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, values[name]), name
    narrow = HunyuanVideoTransformer.from_pretrained(tmp_path / "a.gguf", dtype=torch.bfloat16)
    assert all(torch.equal(t, values[name].bfloat16()) for name, t in narrow.state_dict().items())


def test_gguf_becomes_fp8_while_it_is_read(tmp_path, state):
    config_beside(tmp_path)
    values = written(tmp_path / "a.gguf", state, as_people_quantize("BF16"))
    model = HunyuanVideoTransformer.from_pretrained(tmp_path / "a.gguf", quantize="fp8", dtype=torch.float32)
    save_file(values, tmp_path / "wide.safetensors")
    wide = HunyuanVideoTransformer.from_pretrained(tmp_path / "wide.safetensors", quantize="fp8", dtype=torch.float32)
    assert same_weights(model, wide)


@pytest.mark.parametrize("kind", ["Q3_K", "Q4_K", "Q5_K", "Q6_K"])
def test_k_quants_by_rows(tmp_path, kind):
    """gguf unpacks these and packs none: blocks of random bytes, whose scales are small halves."""
    gguf = pytest.importorskip("gguf")
    import numpy as np
    from gguf.quants import dequantize

    quantization = gguf.GGMLQuantizationType[kind]
    size = gguf.GGML_QUANT_SIZES[quantization][1]
    data = np.random.default_rng(1).integers(0, 60, (6, 2 * size), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "hyvid")
    writer.add_tensor("x.weight", data, raw_dtype=quantization)
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    file = GGUFFile(tmp_path / "a.gguf")
    assert file.infos["x.weight"].shape == (6, 512) and file.infos["x.weight"].dtype == torch.bfloat16
    out = torch.empty(3, 512)
    file.read_into(out, "x.weight", (2, 5))
    assert out.isfinite().all() and torch.equal(out, torch.from_numpy(dequantize(data, quantization))[2:5])


@pytest.mark.parametrize("cut", [0, 3, 40, -100])
def test_damaged_gguf_files_are_one_line(tmp_path, state, cut):
    written(tmp_path / "a.gguf", state, as_people_quantize("Q8_0"))
    content = (tmp_path / "a.gguf").read_bytes()
    (tmp_path / "a.gguf").write_bytes(content[:cut])
    with pytest.raises(UserError, match=r"a\.gguf is no whole GGUF file") as error:
        HunyuanVideoTransformer.from_pretrained(tmp_path / "a.gguf")
    assert "\n" not in str(error.value)


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gguf", None)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"needs the gguf package: pip install 'hunyuan-ext\[gguf\]'"):
        HunyuanVideoTransformer.from_pretrained(tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ({"format": "nvfp4"}, "is nvfp4, a format of ComfyUI"),
        ({"format": "int8_tensorwise", "convrot": True}, r"int8_tensorwise, rotated \(convrot\)"),
        ([1], None),
        ({"format": "float8_e4m3fn"}, None),
    ],
)
@pytest.mark.parametrize("form", ["tensor", "metadata"])
def test_comfyuis_formats(tmp_path, state, note, message, form):
    """Packed and rotated weights are refused by name; others load as before."""
    config_beside(tmp_path)
    tensors, metadata = dict(state), {}
    if form == "tensor":
        content = torch.frombuffer(bytearray(json.dumps(note).encode()), dtype=torch.uint8)
        tensors["double_blocks.0.img_mlp.fc1.comfy_quant"] = content
    else:
        metadata["_quantization_metadata"] = json.dumps({"layers": {"double_blocks.0.img_mlp.fc1": note}})
    save_file(tensors, tmp_path / "a.safetensors", metadata)
    if message is None:
        assert set(HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors").state_dict()) == set(state)
        return
    with pytest.raises(UserError, match=message):
        HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors")


def test_damaged_notes_are_one_line(tmp_path, state):
    config_beside(tmp_path)
    save_file(state, tmp_path / "a.safetensors", {"_quantization_metadata": "{"})
    with pytest.raises(UserError, match="its notes on quantization are damaged"):
        HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["FastHunyuan", "fast-hunyuan-diffusers", "hub/models--FastVideo--FastHunyuan/x/y"])
def test_six_step_models_are_known_by_their_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    defaults = read_defaults(folder)
    assert (defaults.num_inference_steps, defaults.flow_shift, defaults.guidance_scale) == (6, 17.0, 6.0)
    assert read_defaults(tmp_path).num_inference_steps == 50
    (folder / "sampling.json").write_text('{"num_inference_steps": 8}')
    assert read_defaults(folder).num_inference_steps == 8


def test_six_steps_are_told(tmp_path, capsys):
    folder = write_random_checkpoint(tmp_path / "FastHunyuan", guidance_embed=True)
    (folder / "sampling.json").unlink()
    words = [
        "--height",
        "32",
        "--width",
        "32",
        "--num-frames",
        "1",
        "--seed",
        "1",
        "-o",
        str(tmp_path / "a.safetensors"),
    ]
    assert main(["sample", "a red star", "--model", str(folder), *words]) == 0
    assert "FastHunyuan by its name: 6 steps" in capsys.readouterr().err


def test_base_models_have_no_guidance_input(tmp_path, state):
    base = {name: tensor for name, tensor in state.items() if not name.startswith("guidance_in.")}
    save_file(base, tmp_path / "a.safetensors")
    model = HunyuanVideoTransformer.from_pretrained(tmp_path / "a.safetensors")
    assert len(base) == len(state) - 4 and not model.config.guidance_embed and set(model.state_dict()) == set(base)
