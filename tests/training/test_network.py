"""LoRA training: only the adapter learns, its file samples with the checkpoint, FP8 weights stay, bad settings."""

import json

import pytest
import torch
import yaml
from helpers.small_parts import MODEL, save_transformer

from hunyuan_video.checkpoints.lora import load_adapter
from hunyuan_video.cli import main
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.fp8 import FP8Linear, convert_to_fp8_modules
from hunyuan_video.models.lora import add_adapter, lora_layers, target_linears
from hunyuan_video.training.config import LoRAConfig
from hunyuan_video.training.network import NAME, make_network
from hunyuan_video.training.tasks.step_distillation.student import make_student


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    save_transformer(folder, 16)
    return folder


def test_a_run_exports_an_adapter_that_changes_the_checkpoint(base, tmp_path):
    data = tmp_path / "data"
    arguments = ["encode", "toyworld:narrow", "-o", str(data), "--clips", "12", "--captions", "1"]
    if main([*arguments, "--bucket", "5x16x16"]) != 0:
        pytest.skip("the bundled checkpoint is not in this tree, and its encoders are needed")
    config = {"kind": "flow_encoded", "output": str(tmp_path / "run"), "data": str(data), "held_out": 2,
              "init_from": str(base / "transformer"), "sample_steps": 1, "lora": {"rank": 2, "alpha": 4.0},
              "loop": {"steps": 12, "batch": 4, "log_every": 1, "sheet_every": 0, "precision": "fp32"},
              "optimizer": {"lr": 1e-2, "warmup_steps": 1}}  # fmt: skip
    path = tmp_path / "lora.yaml"
    path.write_text(yaml.safe_dump(config))
    assert main(["train", str(path)]) == 0
    plain = HunyuanVideoTransformer.from_pretrained(base / "transformer")
    adapted = load_adapter(
        HunyuanVideoTransformer.from_pretrained(base / "transformer"), tmp_path / "run/export/lora.safetensors", "x"
    )
    layers = dict(lora_layers(adapted))
    assert set(layers) == set(target_linears(plain, [r"double_blocks.*(attn|mlp).*", r"single_blocks.*linear[12]"]))
    assert all(layer.adapter("x").delta().abs().max() > 0 for layer in layers.values())
    for name, layer in layers.items():
        assert torch.equal(layer.base_layer.weight, plain.get_submodule(name).weight)
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert "validation_loss" in lines[-1]["evaluation"]


def test_only_the_adapter_has_gradients_also_beside_fp8(base):
    model = convert_to_fp8_modules(HunyuanVideoTransformer.from_pretrained(base / "transformer")).requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    add_adapter(model, NAME, dict.fromkeys(target_linears(model, [r"single_blocks.*linear[12]"]), 2))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    optimizer = torch.optim.SGD(trained.values(), lr=1.0)
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(1, 16, 2, 4, 4, generator=generator), torch.randn(1, 4, 128, generator=generator)
    for _ in range(2):
        out = model(x, torch.tensor([500.0]), text=text, text_mask=torch.ones(1, 4), pooled_text=torch.ones(1, 96))
        out.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(layer.adapter(NAME).lora_B.abs().sum() > 0 for _, layer in lora_layers(model))
    after = {name.replace("base_layer.", ""): value for name, value in model.state_dict().items()}
    for name, value in before.items():
        assert torch.equal(after[name].view(torch.uint8), value.view(torch.uint8)), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"rank": 2}, "init_from"), ({"rank": -1}, "rank must be"), ({"rank": 2, "targets": ("nothing",)}, "no linear")],
)
def test_bad_settings_say_what_to_do(base, settings, message):
    start = "" if message == "init_from" else str(base / "transformer")
    with pytest.raises(UserError, match=message):
        make_network(start, MODEL, LoRAConfig(**settings), "")


def test_fp8_weights_take_an_adapter_and_nothing_else(base, tmp_path):
    fp8 = str(tmp_path / "fp8")
    HunyuanVideoTransformer.from_pretrained(base / "transformer", quantize="fp8").save_pretrained(fp8)
    adapted = make_network(fp8, {}, LoRAConfig(rank=2), "")
    assert any(isinstance(layer.base_layer, FP8Linear) for _, layer in lora_layers(adapted))
    for train_all in (lambda: make_network(fp8, {}, LoRAConfig(), ""), lambda: make_student(fp8, 0)):
        with pytest.raises(UserError, match="has FP8 weights, which cannot be trained"):
            train_all()
