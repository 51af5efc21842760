"""Clips that continue an image: what the measure says of the real ones, of still ones and of others."""

import json
import shutil

import torch

from hunyuan_video.checkpoints.layout import BUNDLED
from hunyuan_video.cli import main
from hunyuan_video.data.toyworld import render
from hunyuan_video.evaluation import prompt_following as prompt_following_module
from hunyuan_video.evaluation.image_to_video import as_lines, continuation
from hunyuan_video.evaluation.prompt_following import held_out_prompts, prompt_following

COUNT = 4


def test_real_still_and_other_clips():
    real = render(held_out_prompts("narrow", COUNT)[0])
    perfect = continuation(real, real)
    still = continuation(real[:, :1].expand_as(real), real)
    other = continuation(real.roll(1, 0), real)
    assert perfect["first"] == perfect["all"] == still["first"] == still["second"] > 70
    assert 10 < other["first"] < 30 > other["all"]
    assert still["all"] < 30 and other["second"] == perfect["second"] < 40
    jump = torch.cat((real[:, :1], real.roll(1, 0)[:, 1:]), dim=1)
    assert continuation(jump, real)["second"] < perfect["second"] - 3
    text = as_lines({"real clips": perfect, "still": still})
    assert text.count("\n") == 3 and text.count(" dB |") == 2 and text.count("equal") == 4


def test_generators_of_image_models_get_the_first_frames():
    scenes, prompts = held_out_prompts("narrow", COUNT)
    real = render(scenes)
    seen = []

    def generate(batch, seed, images):
        seen.append(images)
        return images[:, None].expand(-1, 17, -1, -1, -1)

    result = prompt_following(generate, "narrow", COUNT, images=True, batch=3)
    assert torch.equal(torch.cat(seen), real[:, 0]) and torch.equal(result.clips[:, 5], real[:, 0])
    assert result.prompts == prompts and result.table["generated"]["color"] >= 0.75


def test_the_command_measures_an_image_model(tmp_path, capsys, monkeypatch):
    """The bundled weights under an image-to-video config, at a size of their own: `eval` gives them the first frames,
    and takes the real clips through the VAE once.
    """
    model = tmp_path / "model"
    shutil.copytree(BUNDLED["tiny"], model)
    path = model / "transformer/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_condition_type": "token_replace"}))
    defaults = json.loads((model / "sampling.json").read_text())
    (model / "sampling.json").write_text(json.dumps({**defaults, "height": 48, "width": 48, "num_frames": 9}))
    seen, real = [], prompt_following_module.reconstruction

    def counted(vae):
        reconstruct = real(vae)
        return lambda frames: seen.append(list(frames.shape)) or reconstruct(frames)

    monkeypatch.setattr(prompt_following_module, "reconstruction", counted)
    words = ["--model", str(model), "--prompts", "2", "--num-inference-steps", "1", "-o", str(tmp_path / "t.json")]
    assert main(["eval", *words]) == 0
    assert "| generated | " in capsys.readouterr().out
    assert seen == [[2, 9, 48, 48, 3], [2, 9, 48, 48, 3]]  # the second for the VAE's PSNR, of other clips
    table = json.loads((tmp_path / "t.json").read_text())["continuation"]
    assert table["generated"]["first"] > table["generated"]["all"] + 2 > 10
