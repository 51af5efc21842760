"""`convert --dtype fp8|int8`: values, what stays, errors, our own loading and sampling, adapters beside, refusals."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.tiny_models import same_bits, same_weights
from safetensors.torch import load_file, save_file

import hunyuan_ext as ops
from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.checkpoints import convert
from hunyuan_video.checkpoints.quantized import QuantizedSource
from hunyuan_video.checkpoints.sources import StateSource, read
from hunyuan_video.cli import main
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.fp8 import FP8Linear, fp8_linears
from hunyuan_video.models.int8 import Int8Linear
from hunyuan_video.models.lora import add_adapter, merge_adapters, remove_adapters, target_linears

KINDS = {"fp8": (ops.quantize_fp8, FP8Linear), "int8": (ops.quantize_int8, Int8Linear)}
MODULATIONS = 2 * 2 + 2
BLOCKS = 2 * 10 + 2 * 3


@pytest.fixture
def source(tmp_path, transformer):
    return transformer.bfloat16().save_pretrained(tmp_path / "source")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["folder", "one.safetensors"])
def test_the_weights_are_those_of_the_quantizer(tmp_path, transformer, source, kind, name):
    errors = {}
    [path] = convert(source, tmp_path / "made" / name, "diffusers", kind, errors=errors, max_shard_size=20_000)
    model = HunyuanVideoTransformer.from_pretrained(path)
    quantize, made = KINDS[kind]
    quantized = {name: module for name, module in model.named_modules() if isinstance(module, made)}
    assert len(quantized) == BLOCKS - MODULATIONS == len(errors) and errors.keys() == quantized.keys()
    for name, module in quantized.items():
        weight = transformer.get_submodule(name).weight
        codes, scale = quantize(weight)
        assert same_bits(module.weight, codes) and same_bits(module.scale, scale)
        change = ((codes.float() * scale - weight.float()).norm() / weight.float().norm()).item()
        assert errors[name].relative == pytest.approx(change, rel=1e-4)
        assert 1e-4 < errors[name].relative < 0.05
    others = {name: value for name, value in model.state_dict().items() if name.rpartition(".")[0] not in quantized}
    assert len(others) > 40 and all(same_bits(value, transformer.state_dict()[name]) for name, value in others.items())


@pytest.mark.parametrize("kind", KINDS)
def test_converting_and_loading_make_the_same(tmp_path, source, kind):
    [path] = convert(source, tmp_path / "made", "diffusers", kind, keep=())
    stored = HunyuanVideoTransformer.from_pretrained(path)
    made = HunyuanVideoTransformer.from_pretrained(source, quantize=kind)
    assert same_weights(stored, made)
    assert same_weights(HunyuanVideoTransformer.from_pretrained(made.save_pretrained(tmp_path / "again")), made)
    assert HunyuanVideoTransformer.from_pretrained(path, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_computes_nearly_the_same(transformer, kind, tmp_path):
    x = torch.randn(1, 4, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    given = {
        "text": torch.ones(1, 3, 24), "text_mask": torch.ones(1, 3, dtype=torch.long), "pooled_text": torch.ones(1, 20),
        "guidance": torch.tensor([6000.0]),
    }  # fmt: skip
    path = transformer.save_pretrained(tmp_path / "a")
    [made] = convert(path, tmp_path / "b", "diffusers", kind)
    with torch.no_grad():
        want = transformer(x, torch.tensor([500.0]), **given)
        got = HunyuanVideoTransformer.from_pretrained(made)(x, torch.tensor([500.0]), **given)
    assert 0 < float((got - want).norm() / want.norm()) < 0.1


def test_official_files_take_fp8_and_no_int8(tmp_path, source):
    convert(source, tmp_path / "official", "official", "fp8")
    [diffusers] = convert(source, tmp_path / "diffusers", "diffusers", "fp8")
    loaded = [HunyuanVideoTransformer.from_pretrained(path) for path in (tmp_path / "official", diffusers)]
    assert same_weights(*loaded)
    with pytest.raises(UserError, match="the official layout have no int8"):
        convert(source, tmp_path / "int8", "official", "int8")
    [one] = convert(source, tmp_path / "int8.safetensors", "official", "int8")
    [other] = convert(one, tmp_path / "back", "diffusers")
    models = [HunyuanVideoTransformer.from_pretrained(path) for path in (one, other)]
    assert same_weights(*models) and any(isinstance(module, Int8Linear) for module in models[0].modules())
    assert not (tmp_path / "int8").exists()


def test_rows_are_quantized_alike_whole_or_in_parts():
    weight = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    source = QuantizedSource(StateSource({"a.weight": weight}), ["a"], "fp8")
    whole, scale = read(source, "a.weight"), read(source, "a.weight_scale")
    part = torch.empty(3, 5, dtype=torch.float8_e4m3fn)
    source.read_into(part, "a.weight", (2, 5))
    assert same_bits(part, whole[2:5]) and scale.shape == (7, 1)
    weight[3, 2] = float("inf")
    with pytest.raises(UserError, match="'a.weight' holds NaN or infinity"):
        read(source, "a.weight")


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_stay_branches_beside_the_codes(tmp_path, source, kind):
    [path] = convert(source, tmp_path / "made", "diffusers", kind)
    model = HunyuanVideoTransformer.from_pretrained(path)
    targets = target_linears(model)
    add_adapter(model, "a", dict.fromkeys(targets, 2))
    before = {name: value.clone() for name, value in model.state_dict().items() if name.endswith("base_layer.weight")}
    merge_adapters(model)
    after = model.state_dict()
    codes = [name for name in before if before[name].dtype in (torch.int8, torch.float8_e4m3fn)]
    assert codes and all(same_bits(before[name], after[name]) for name in codes)
    remove_adapters(model, keep_merged=True)
    left = [name for name, module in model.named_modules() if hasattr(module, "base_layer")]
    assert len(left) == len([name for name in targets if isinstance(_base(model, name), FP8Linear | Int8Linear)])


def _base(model, name):
    module = model.get_submodule(name)
    return getattr(module, "base_layer", module)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bundled_checkpoint_is_converted_and_sampled(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "tiny", kind, "--layout", "diffusers", "--dtype", kind, "--report"]) == 0
    out = capsys.readouterr().out
    layers = [line for line in out.splitlines() if line.endswith("%")]
    assert len(layers) > 10 and f"{len(layers)} layers, error " in out and not any("_mod.linear" in x for x in layers)
    words = ["sample", "a red circle moves right on a gray background", "--seed", "1", "--model", kind, "-o", "a.webp"]
    assert main(words) == 0
    types = json.loads(_inspected(capsys, kind))
    assert any("float8_e4m3fn" in line if kind == "fp8" else "int8" in line for line in types["lines"])
    plain, made = (HunyuanVideoPipeline.from_pretrained(model, device="cpu") for model in ("tiny", kind))
    frames = [
        pipe("a red circle moves right on a gray background", seed=1).frames.astype(float) for pipe in (plain, made)
    ]
    assert 0 < abs(frames[0] - frames[1]).mean() < 12


def _inspected(capsys, path):
    capsys.readouterr()
    assert main(["inspect", path, "--json"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--layout", "diffusers", "--report"), 2, "--keep and --report go with --dtype fp8 or int8"),
        (("--names", "kohya", "--dtype", "int8"), 2, "--dtype int8 is for checkpoints"),
        (("--layout", "diffusers", "--dtype", "fp8", "--keep", "*"), 1, "all are kept; name fewer to keep"),
        (("--layout", "diffusers", "--dtype", "fp8", "--keep", "blocks"), 1, "no linear of the blocks is named like"),
    ],
)
def test_wrong_words_are_one_line(tmp_path, source, capsys, words, code, message):
    assert main(["convert", str(source), str(tmp_path / "made"), *words]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "made").exists()


def test_what_has_no_wide_weights_is_refused(tmp_path, source, vae):
    [path] = convert(source, tmp_path / "made", "diffusers", "int8", keep=())
    with pytest.raises(UserError, match="they are quantized already; convert the bfloat16 checkpoint"):
        convert(path, tmp_path / "again", "diffusers", "fp8", keep=())
    with pytest.raises(UserError, match="is a VAE; leave it as it is"):
        convert(vae.save_pretrained(tmp_path / "vae"), tmp_path / "v", "diffusers", "fp8")
    tensors = load_file(path / "diffusion_pytorch_model.safetensors")
    lost = {name: value for name, value in tensors.items() if not name.endswith("0.attn.to_q.weight_scale")}
    save_file(lost, path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(UserError, match="holds int8 weights without their scales"):
        HunyuanVideoTransformer.from_pretrained(path)


def test_all_blocks_are_what_the_released_file_has(tmp_path, transformer, source):
    [path] = convert(source, tmp_path / "made", "diffusers", "fp8", keep=())
    stored = {name for name, module in HunyuanVideoTransformer.from_pretrained(path).named_modules()
              if isinstance(module, FP8Linear)}  # fmt: skip
    assert stored == {name for name, _ in fp8_linears(transformer)} and len(stored) == BLOCKS
