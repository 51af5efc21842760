"""Arguments that change nothing are told, once, and those that change something are not."""

import warnings

import pytest
import torch

from hunyuan_video.errors import IneffectiveArgument

PROMPT = "a red star moves left"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"negative_prompt": "blur", "true_cfg_scale": 1.0}, "negative_prompt has no effect without guidance"),
        ({"guidance_rescale": 0.7, "true_cfg_scale": 1.0}, "guidance_rescale has no effect without guidance"),
        ({"guidance_scale": 6.0}, "guidance_scale has no effect on this model"),
        ({"vae_mode": "exact"}, "vae_mode has no effect on latents"),
        ({"checkpoint_every": 5}, "checkpoint_every has no effect without checkpoint_to"),
    ],
)
def test_what_has_no_effect_is_told(pipe, given, message):
    common = {"output_type": "latent", "seed": 1, "num_inference_steps": 1}
    with pytest.warns(IneffectiveArgument, match=message):
        result = pipe(PROMPT, **common, **given).latents
    without = {name: value for name, value in given.items() if name == "true_cfg_scale"}
    assert torch.equal(result, pipe(PROMPT, **common, **without).latents)


@pytest.mark.parametrize(
    "given",
    [{"negative_prompt": "a blue circle", "true_cfg_scale": 4.0}, {"guidance_rescale": 0.7, "true_cfg_scale": 4.0},
     {"negative_prompt": "", "true_cfg_scale": 1.0}, {"guidance_rescale": 0.0, "true_cfg_scale": 1.0}],
)  # fmt: skip
def test_what_has_an_effect_or_asks_for_nothing_is_not(pipe, given):
    with warnings.catch_warnings():
        warnings.simplefilter("error", IneffectiveArgument)
        if given.get("negative_prompt") == "":
            given = {**given, "negative_prompt": None}
        result = pipe(PROMPT, seed=1, num_inference_steps=1, output_type="latent", **given).latents
    scale = given["true_cfg_scale"]
    same = torch.equal(
        result, pipe(PROMPT, seed=1, num_inference_steps=1, output_type="latent", true_cfg_scale=scale).latents
    )
    assert same == (scale == 1.0)


def test_the_command_line_says_it_once_in_its_own_words(checkpoint, tmp_path, monkeypatch, capsys):
    from hunyuan_video.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts").write_text(f"{PROMPT}\na blue circle\n")
    common = ["sample", "--prompt-file", "prompts", "--model", str(checkpoint), "--device", "cpu", "--num-frames", "1"]
    options = ["--true-cfg-scale", "1", "--negative-prompt", "blur", "--contact-sheet", "--fps", "8"]
    assert main([*common, *options, "-o", "x.safetensors"]) == 0
    message = capsys.readouterr().err
    assert message.count("note: --negative-prompt has no effect without guidance; set --true-cfg-scale above 1") == 1
    assert message.count("note: --contact-sheet has no effect without a .png output") == 1
    assert message.count("note: --fps has no effect on images and latents") == 1
