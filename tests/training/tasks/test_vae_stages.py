"""The staged VAE run: its losses, its curriculum, a short run with all of them, bad configurations."""

import json
import random
import sys
import types

import pytest
import torch
import yaml
from torch import nn

from hunyuan_video.cli import main
from hunyuan_video.errors import UserError
from hunyuan_video.models import CausalVAE
from hunyuan_video.training.config import VAEStage, VAEStagesRun, build
from hunyuan_video.training.tasks.discriminator import PatchDiscriminator, discriminator_loss, generator_loss
from hunyuan_video.training.tasks.perceptual import perceptual_loss
from hunyuan_video.training.tasks.vae_stages import VAEStagesTask, largest_stride, stage_at

MODEL = {"latent_channels": 4, "block_out_channels": [4, 4, 4, 4], "layers_per_block": 1, "norm_groups": 2,
         "tile_size": 16, "tile_frames": 8}  # fmt: skip
STAGES = [
    {"steps": 6, "frames": 5, "size": 16, "batch": 2},
    {"steps": 4, "frames": 5, "size": 32, "batch": 2, "tiled": 1.0},
]


class MeanDistance(nn.Module):
    """A perceptual loss of the test's own."""

    def forward(self, a, b):
        return (a.mean((1, 2, 3)) - b.mean((1, 2, 3))).square().mean()


def settings(tmp_path, **changes):
    loop = {"steps": 10, "precision": "fp32", "log_every": 1}
    return {"kind": "vae_stages", "output": str(tmp_path / "run"), "model": MODEL, "source_frames": 9,
            "source_size": 32, "clips": 8, "held_out": 2, "stages": STAGES, "perceptual": "torch.nn:MSELoss",
            "adversarial_start": 4, "discriminator_width": 4, "loop": loop, **changes}  # fmt: skip


def task_of(tmp_path, **changes):
    config = build(VAEStagesRun, settings(tmp_path, **{"weight_perceptual": 0.0, **changes}), "test")
    return VAEStagesTask(config, tmp_path, lambda line: None)


def test_stages_follow_each_other():
    stages = (VAEStage(steps=2, size=16), VAEStage(steps=3, size=32))
    assert [stage_at(stages, step).size for step in range(7)] == [16, 16, 32, 32, 32, 32, 32]


@pytest.mark.parametrize("available", [1, 5, 9, 65])
@pytest.mark.parametrize("frames", [1, 5, 17])
def test_strides_fit(available, frames):
    stride = largest_stride(available, frames, 8)
    assert 1 <= stride <= 8
    if frames > 1 and available >= frames:
        assert (frames - 1) * stride + 1 <= available
        assert stride == 8 or (frames - 1) * (stride + 1) + 1 > available


def test_hinge_losses_have_their_closed_forms():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    assert discriminator_loss(real, fake).item() == pytest.approx(0.5 * (0.5 + 1.0))
    assert generator_loss(fake).item() == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (5, 16, 24), (17, 32, 32)])
def test_discriminator_judges_patches_of_videos_and_images(shape):
    torch.manual_seed(0)
    judge = PatchDiscriminator(4, 3)
    video = torch.randn(2, 3, *shape, requires_grad=True)
    out = judge(video)
    assert out.shape[:2] == (2, 1) and out.shape[3] < shape[1]
    out[0].sum().backward()
    assert video.grad[0].abs().sum() > 0 and video.grad[1].abs().sum() == 0


def test_images_are_mixed_one_to_four_and_strides_vary(tmp_path):
    task = task_of(tmp_path, weight_adversarial=0.0)
    rng = random.Random(0)
    shapes = [task.batch(task.config.stages[0], 1, rng).shape for _ in range(200)]
    images = sum(shape[2] == 1 for shape in shapes)
    assert 20 < images < 65
    assert {tuple(shape[1:]) for shape in shapes} == {(3, 1, 16, 16), (3, 5, 16, 16)}


def test_batches_depend_on_the_generator_alone(tmp_path):
    task = task_of(tmp_path, weight_adversarial=0.0)
    one, two = (task.batch(task.config.stages[1], 2, random.Random(7)) for _ in range(2))
    assert torch.equal(one, two) and one.shape[-1] == 32
    assert one.min() >= -1 and one.max() <= 1


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_discriminator_in_bfloat16_judges_as_in_float32(frames):
    torch.manual_seed(0)
    judge = PatchDiscriminator(16, 3)
    video = torch.rand(2, 3, frames, 64, 64) * 2 - 1
    exact = judge(video)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = judge(video)
    assert (rounded.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_the_vaes_loss_leaves_no_gradient_in_the_discriminator(tmp_path):
    task = task_of(tmp_path, adversarial_start=0)
    judge = task.auxiliary["discriminator"].network
    calls = []
    task.auxiliary["discriminator"].update = lambda loss, step: calls.append(loss.backward())
    loss, parts = task.loss(0, torch.Generator().manual_seed(0))
    before = [p.grad.clone() for p in judge.parameters()]
    loss.backward()
    assert len(calls) == 1 and {"discriminator", "real", "fake"} <= set(parts)
    assert all(torch.equal(p.grad, b) for p, b in zip(judge.parameters(), before, strict=True))
    assert all(p.requires_grad for p in judge.parameters())
    assert task.network.decoder.conv_out.conv.weight.grad.abs().sum() > 0


def test_adversarial_starts_late(tmp_path):
    task = task_of(tmp_path, adversarial_start=4)
    task.auxiliary["discriminator"].update = lambda loss, step: None
    assert "fake" not in task.loss(3, torch.Generator().manual_seed(0))[1]
    assert "fake" in task.loss(4, torch.Generator().manual_seed(0))[1]


def test_a_short_run_trains_reports_and_exports(tmp_path, monkeypatch):
    path = tmp_path / "vae.yaml"
    path.write_text(yaml.safe_dump(settings(tmp_path, perceptual="tests_perceptual:MeanDistance")))
    module = types.ModuleType("tests_perceptual")
    module.MeanDistance = MeanDistance
    monkeypatch.setitem(sys.modules, "tests_perceptual", module)
    assert main(["train", str(path)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "l1" in line]
    assert losses[5]["l1"] < losses[0]["l1"]
    assert "fake" in losses[-1] and "fake" not in losses[0] and "perceptual" in losses[0]
    evaluation = lines[-1]["evaluation"]
    assert {"psnr", "ssim", "tiled_rms"} <= set(evaluation) and evaluation["tiled_rms"] > 0
    again = CausalVAE.from_pretrained(tmp_path / "run/export")
    assert again.config.scaling_factor == pytest.approx(1 / evaluation["latent_std"], rel=1e-4)
    assert list((tmp_path / "run/sheets").glob("*.png"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"stages": []}, "at least one stage"), ({"loop": {"steps": 3}}, "make them equal"),
     ({"stages": [{"steps": 10, "frames": 6, "size": 16}]}, r"4k \+ 1"), ({"held_out": 0}, "held_out"),
     ({"stages": [{"steps": 10, "frames": 5, "size": 640}]}, "do not fit"), ({"discriminator_width": 9}, "width must"),
     ({"data": "toyworld:nowhere"}, "the worlds are"), ({"perceptual": "nothing"}, "module:factory")],
)  # fmt: skip
def test_bad_configurations_say_what_to_do(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        VAEStagesTask(build(VAEStagesRun, settings(tmp_path, **changes), "test"), tmp_path, lambda line: None)


def test_efficientnet_is_zero_for_equal_frames_and_grows_with_blur():
    pytest.importorskip("efficientnet_lite_pytorch", reason="install the extra 'train'")
    distance = perceptual_loss("efficientnet_lite0").train()
    assert not any(module.training for module in distance.modules())
    torch.manual_seed(0)
    frames = torch.rand(2, 3, 64, 64) * 2 - 1
    assert distance(frames, frames).item() == 0
    soft, softer = (nn.functional.avg_pool2d(frames, k, 1, k // 2) for k in (3, 7))
    assert 0 < distance(frames, soft).item() < distance(frames, softer).item()
    soft.requires_grad_(True)
    distance(frames, soft).backward()
    assert soft.grad.abs().sum() > 0 and all(p.grad is None for p in distance.parameters())
