"""Adapters that come with a checkpoint: the default, another one, none; their settings; resumption; layouts."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from helpers.random_checkpoint import SAMPLING

from hunyuan_video import HunyuanVideoPipeline, UserError
from hunyuan_video.checkpoints import convert
from hunyuan_video.checkpoints.lora import save_adapter
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.lora import add_adapter, lora_layers, target_linears

PROMPT = "a red star moves left"
FEW = {"num_inference_steps": 2, "true_cfg_scale": 1.0, "flow_shift": 2.0, "solver": "lcm"}


@pytest.fixture(scope="module")
def adapted(checkpoint, tmp_path_factory):
    """The random checkpoint with a default adapter."""
    folder = tmp_path_factory.mktemp("adapted") / "checkpoint"
    shutil.copytree(checkpoint, folder)
    model = HunyuanVideoTransformer.from_pretrained(folder)
    torch.manual_seed(0)
    add_adapter(model, "few", dict.fromkeys(target_linears(model), 2))
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.adapter("few").lora_B.normal_(std=0.2)
    save_adapter(model, "few", folder / "adapters" / "few.safetensors")
    sampling = {**SAMPLING, "adapter": "few", "adapters": {"few": FEW}}
    (folder / "sampling.json").write_text(json.dumps(sampling))
    return folder


def load(folder, **options) -> HunyuanVideoPipeline:
    return HunyuanVideoPipeline.from_pretrained(folder, device="cpu", **options)


def test_the_default_adapter_brings_its_weights_and_settings(adapted, pipe):
    few, plain = load(adapted), load(adapted, adapter="none")
    assert plain.fingerprints() == pipe.fingerprints() != few.fingerprints()
    assert not list(lora_layers(few.transformer))
    settings = few(PROMPT, seed=1, output_type="latent").settings
    assert {name: settings[name] for name in FEW} == FEW
    assert np.array_equal(plain(PROMPT, seed=1).frames, pipe(PROMPT, seed=1).frames)


def test_a_file_is_an_adapter_too_and_leaves_the_settings(adapted, checkpoint):
    other = load(checkpoint, adapter=str(adapted / "adapters" / "few.safetensors"))
    assert other.fingerprints() == load(adapted).fingerprints()
    assert other.defaults == load(checkpoint).defaults


def test_an_unknown_adapter_is_one_line(adapted, checkpoint):
    with pytest.raises(UserError, match="no adapter 'many'; it has few, none"):
        load(adapted, adapter="many")
    with pytest.raises(UserError, match="no adapter file"):
        load(adapted, adapter="many.safetensors")
    with pytest.raises(UserError, match="it has none"):
        load(checkpoint, adapter="few")


def test_a_run_is_not_resumed_without_its_adapter(adapted, tmp_path):
    stream = load(adapted).stream(PROMPT, seed=1, checkpoint_to=tmp_path / "state.safetensors")
    next(iter(stream))
    stream.close()
    with pytest.raises(UserError, match="another transformer"):
        load(adapted, adapter="none")(resume_from=tmp_path / "state.safetensors")
    resumed = load(adapted)(resume_from=tmp_path / "state.safetensors")
    assert np.array_equal(resumed.frames, load(adapted)(PROMPT, seed=1).frames)


def test_converting_keeps_the_adapter(adapted, tmp_path):
    convert(adapted, tmp_path / "ckpts", "official")
    assert load(tmp_path / "ckpts").defaults == load(adapted).defaults
    assert np.array_equal(load(tmp_path / "ckpts")(PROMPT, seed=1).frames, load(adapted)(PROMPT, seed=1).frames)


def test_noise_of_the_steps_does_not_depend_on_the_batch(adapted):
    pipe = load(adapted)
    together = pipe([PROMPT, "a blue circle"], seed=[4, 5], output_type="latent").latents
    alone = pipe("a blue circle", seed=5, output_type="latent").latents
    assert torch.equal(together[1:], alone)
    torch.testing.assert_close(
        pipe([PROMPT, "a blue circle"], seed=[4, 5], batch_size=2, output_type="latent").latents,
        together,
        rtol=1e-4,
        atol=1e-4,
    )


def test_command_line_adapter(adapted, tmp_path, monkeypatch, capsys):
    from hunyuan_video.cli import main

    monkeypatch.chdir(tmp_path)
    common = ["sample", PROMPT, "--model", str(adapted), "--device", "cpu", "--seed", "1", "--num-frames", "1"]
    assert main([*common, "-o", "few.png"]) == 0
    assert main([*common, "-o", "plain.png", "--adapter", "none"]) == 0
    assert (tmp_path / "few.png").read_bytes() != (tmp_path / "plain.png").read_bytes()
    assert main([*common, "-o", "x.png", "--adapter", "many"]) == 1
    assert "it has few, none" in capsys.readouterr().err


def test_several_adapters_with_weights_add_up(adapted):
    file = adapted / "adapters" / "few.safetensors"
    two, three = load(adapted, adapter=f"few:0.5,{file}:1.5"), load(adapted, adapter="few:2")
    assert two.defaults.num_inference_steps == FEW["num_inference_steps"]
    for name, value in three.transformer.state_dict().items():
        torch.testing.assert_close(two.transformer.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="commas"):
        load(adapted, adapter="few,,few")


def test_a_folder_is_opened_where_it_is_clear_which_file_is_meant(adapted, checkpoint, tmp_path):
    file = adapted / "adapters" / "few.safetensors"
    shutil.copy(file, tmp_path / "lora.safetensors")
    assert load(checkpoint, adapter=str(tmp_path)).fingerprints() == load(adapted).fingerprints()
    shutil.copy(file, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"several files \(lora.safetensors, other.safetensors\); give one of them"):
        load(checkpoint, adapter=str(tmp_path))
    shutil.copy(file, tmp_path / "adapter_model.safetensors")
    assert load(checkpoint, adapter=f"{tmp_path}:0.5").fingerprints() == load(adapted, adapter="few:0.5").fingerprints()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no adapter"):
        load(checkpoint, adapter=str(tmp_path / "empty"))


@pytest.mark.parametrize(("asked", "message"), [("few,none", "stands alone"), ("few:abc", "the weight, a number")])
def test_lists_that_mean_nothing(adapted, asked, message):
    with pytest.raises(UserError, match=message):
        load(adapted, adapter=asked)


def test_the_command_line_tells_what_it_understood(adapted, tmp_path, monkeypatch, capsys):
    from hunyuan_video.cli import main

    monkeypatch.chdir(tmp_path)
    file = adapted / "adapters" / "few.safetensors"
    shutil.copy(file, "other.safetensors")
    common = ["sample", PROMPT, "--model", str(adapted), "--device", "cpu", "--seed", "1", "--num-frames", "1"]
    assert main([*common, "-o", "a.png"]) == 0
    assert "adapter" not in capsys.readouterr().err
    assert main([*common, "-o", "a.png", "--adapter", "other.safetensors:0.5"]) == 0
    printed = capsys.readouterr().err
    assert "LoRA in diffusers names" in printed and "rank 2, alpha 2: strength 1, used at 0.5" in printed
    assert "own adapter few is not used; for both, the adapter is few,other.safetensors:0.5" in printed
