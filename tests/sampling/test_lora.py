"""Adapters of a pipeline by the names that diffusers' pipelines have; the bar of a run; large seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hunyuan_video import HunyuanVideoPipeline, UserError
from hunyuan_video.checkpoints.lora import save_adapter
from hunyuan_video.errors import ArgumentError
from hunyuan_video.models.fp8 import convert_to_fp8_modules
from hunyuan_video.models.lora import add_adapter, lora_layers, remove_adapters, target_linears
from hunyuan_video.models.transformer.executor import PLAIN

CALL = {"prompt": "a red star moves left", "seed": 1, "output_type": "latent"}


@pytest.fixture
def pipe(checkpoint):
    return HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def files(checkpoint, tmp_path_factory):
    """Two adapters of different layers: first.safetensors and second.safetensors, in a folder of their own."""
    folder, model = tmp_path_factory.mktemp("adapters"), HunyuanVideoPipeline.from_pretrained(checkpoint).transformer
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        add_adapter(model, name, dict.fromkeys(target_linears(model)[seed::2], 2))
        for _, layer in lora_layers(model):
            torch.nn.init.normal_(layer.adapter(name).lora_B, std=0.3)
        save_adapter(model, name, folder / f"{name}.safetensors", dtype=torch.float32)
        remove_adapters(model)
    return folder


def run(pipe, **more):
    return pipe(**{**CALL, **more}).latents


def weights(pipe):
    return {name: value.clone() for name, value in pipe.transformer.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_load_set_unload(pipe, files):
    before, plain = weights(pipe), run(pipe)
    pipe.load_lora_weights(files / "first.safetensors", "style")
    styled = run(pipe)
    pipe.load_lora_weights(str(files), weight_name="second.safetensors", weight=0.5)
    both = run(pipe)
    assert pipe.get_list_adapters() == {"transformer": ["default_0", "style"]}
    assert pipe.get_active_adapters() == {"style": 1.0, "default_0": 0.5}
    assert not torch.equal(styled, plain) and not torch.equal(both, styled)
    pipe.set_adapters("style")
    assert torch.equal(run(pipe), styled) and pipe.get_active_adapters() == {"style": 1.0}
    pipe.set_adapters(["default_0", "style"], [0.5, 1.0])
    torch.testing.assert_close(run(pipe), both, rtol=1e-5, atol=1e-5)
    pipe.set_adapters(["default_0", "style"], 0)
    torch.testing.assert_close(run(pipe), plain, rtol=1e-5, atol=1e-5)
    pipe.unload_lora_weights()
    assert pipe.get_list_adapters() == {} and equal(weights(pipe), before) and torch.equal(run(pipe), plain)


def test_fuse_and_unfuse(pipe, files):
    before = weights(pipe)
    pipe.load_lora_weights(files / "first.safetensors", "style", weight=2.0)
    pipe.load_lora_weights(files / "second.safetensors", "motion")
    beside = run(pipe)
    pipe.fuse_lora()
    fused = run(pipe)
    torch.testing.assert_close(fused, beside, rtol=1e-4, atol=1e-4)
    assert not torch.equal(fused, beside)
    pipe.unfuse_lora()
    assert torch.equal(run(pipe), beside)
    pipe.fuse_lora(lora_scale=0.5, adapter_names="style")
    assert pipe.get_active_adapters() == {"style": 1.0}
    pipe.unload_lora_weights()
    pipe.load_lora_weights(files / "first.safetensors", weight=-1.0)  # takes out what was fused, up to rounding
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    after = weights(pipe)
    assert after.keys() == before.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-5)


def test_fused_weights_stay_when_the_adapters_go(pipe, files):
    before = weights(pipe)
    pipe.load_lora_weights(files / "first.safetensors")
    pipe.fuse_lora()
    fused = run(pipe)
    pipe.unload_lora_weights()
    assert not list(lora_layers(pipe.transformer)) and not equal(weights(pipe), before)
    assert torch.equal(run(pipe), fused)


def test_disable_enable_delete(pipe, files):
    before, plain = weights(pipe), run(pipe)
    pipe.load_lora_weights(files / "first.safetensors", "style")
    styled = run(pipe)
    pipe.load_lora_weights(files / "second.safetensors", "motion", weight=0.5)
    both = run(pipe)
    pipe.disable_lora()
    assert torch.equal(run(pipe), plain) and pipe.get_active_adapters() == {}
    pipe.enable_lora()
    assert torch.equal(run(pipe), both)
    pipe.fuse_lora()
    pipe.delete_adapters("motion")
    assert torch.equal(run(pipe), styled) and pipe.get_list_adapters() == {"transformer": ["style"]}
    pipe.disable_lora()
    pipe.delete_adapters(["style"])
    pipe.enable_lora()
    assert equal(weights(pipe), before) and not list(lora_layers(pipe.transformer))


def test_biases_come_and_go_with_their_adapter(pipe, tmp_path):
    """A difference of a bias is in the parameter while its adapter is active."""
    before, bias = weights(pipe), pipe.transformer.img_in.proj.bias
    for name, value in (("one", 1.0), ("two", 0.25)):
        save_file(
            {"diffusion_model.img_in.proj.diff_b": torch.full_like(bias, value)}, tmp_path / f"{name}.safetensors"
        )
        pipe.load_lora_weights(tmp_path / f"{name}.safetensors", name)
    torch.testing.assert_close(bias, before["img_in.proj.bias"] + 1.25)
    pipe.delete_adapters("one")
    torch.testing.assert_close(bias, before["img_in.proj.bias"] + 0.25)
    pipe.delete_adapters("two")
    assert equal(weights(pipe), before) and pipe.get_list_adapters() == {}


def test_beside_fp8_weights(pipe, files):
    """Nothing can be merged into these: fused or not, adapters act, and without fusing they can be taken off."""
    convert_to_fp8_modules(pipe.transformer)
    plain = run(pipe)
    pipe.load_lora_weights(files / "first.safetensors", "style")
    styled = run(pipe)
    assert not torch.equal(styled, plain)
    pipe.unload_lora_weights()
    assert torch.equal(run(pipe), plain)


def test_a_state_knows_the_strength(pipe, files, tmp_path):
    pipe.load_lora_weights(files / "first.safetensors", "style")
    stream = pipe.stream(**CALL, checkpoint_to=tmp_path / "state.safetensors")
    next(iter(stream))
    stream.close()
    pipe.set_adapters("style", 0.5)
    with pytest.raises(UserError, match="another transformer"):
        pipe(resume_from=tmp_path / "state.safetensors")
    pipe.set_adapters("style")
    resumed = pipe(resume_from=tmp_path / "state.safetensors", output_type="latent")
    assert torch.equal(resumed.latents, run(pipe))


def test_wrong_calls_are_one_line_and_change_nothing(pipe, files, tmp_path):
    pipe.load_lora_weights(files / "first.safetensors", "style")
    before, active = weights(pipe), pipe.get_active_adapters()
    (tmp_path / "bad.safetensors").write_bytes(b"no adapter")
    calls = [
        (ArgumentError, "'style' is taken", lambda: pipe.load_lora_weights(files / "second.safetensors", "style")),
        (ArgumentError, "word without dots", lambda: pipe.load_lora_weights(files / "second.safetensors", "a.b")),
        (ArgumentError, "finite", lambda: pipe.load_lora_weights(files / "second.safetensors", weight=float("nan"))),
        (UserError, "no adapter file", lambda: pipe.load_lora_weights(tmp_path / "none.safetensors")),
        (UserError, "several files", lambda: pipe.load_lora_weights(files)),
        (UserError, "bad.safetensors", lambda: pipe.load_lora_weights(tmp_path / "bad.safetensors")),
        (ArgumentError, "no adapter 'other' is loaded; there are: style", lambda: pipe.set_adapters("other")),
        (ArgumentError, "3 entries for 1 adapters", lambda: pipe.set_adapters(["style"], [1, 2, 3])),
        (ArgumentError, "must be a number", lambda: pipe.set_adapters("style", "much")),
        (ArgumentError, "twice", lambda: pipe.set_adapters(["style", "style"])),
        (ArgumentError, "no adapter 'other'", lambda: pipe.fuse_lora(adapter_names=["other"])),
    ]
    for kind, text, call in calls:
        with pytest.raises(kind, match=text) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert equal(weights(pipe), before) and pipe.get_active_adapters() == active
    pipe.unload_lora_weights()
    with pytest.raises(ArgumentError, match="no adapter is active"):
        pipe.fuse_lora()


def test_an_image_to_video_adapter_leaves_no_trace(pipe, files, tmp_path):
    model, config = pipe.transformer, pipe.transformer.config
    pipe.load_lora_weights(files / "first.safetensors", "style")
    save_adapter(model, "style", tmp_path / "image.safetensors", metadata={"image_condition": "token_replace"})
    pipe.unload_lora_weights()
    pipe.load_lora_weights(tmp_path / "image.safetensors")
    assert model.config.image_condition == "token_replace"
    pipe.unload_lora_weights()
    assert model.config == config and not config.image_condition and model.executor != PLAIN


def test_progress_is_a_bar_on_stderr(pipe, capsys):
    quiet = run(pipe)
    assert capsys.readouterr().err == ""
    assert torch.equal(run(pipe, progress=True), quiet)
    shown = capsys.readouterr()
    assert "sampling: 100%" in shown.err and "4/4" in shown.err and shown.out == ""
    pipe(**{**CALL, "output_type": "np"}, progress=True)
    assert "decoding: 100%" in capsys.readouterr().err


def test_a_cancelled_bar_ends_its_line(pipe, capsys):
    stream = pipe.stream(**CALL, progress=True)
    next(stream)
    stream.close()
    shown = capsys.readouterr().err
    assert "1/4" in shown and shown.endswith("\n")


def test_seeds_of_64_bits(pipe):
    """The largest seed of ComfyUI and torch, and the one after it."""
    last = 2**64 - 1
    out = pipe(**{**CALL, "seed": last}, num_videos_per_prompt=2)
    assert out.seeds == [last, 0]
    noise = torch.randn(out.latents.shape[1:], generator=torch.Generator().manual_seed(last))
    given = pipe(**{**CALL, "seed": None}, latents=noise[None]).latents
    assert np.array_equal(given[0], out.latents[0]) and torch.equal(out.latents[1:], run(pipe, seed=0))
