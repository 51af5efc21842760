"""The VAE run: batches, bootstrap and joint loss, decoder-only training, a short run end to end."""

import json

import pytest
import torch

from hunyuan_video.data.world import WorldConfig
from hunyuan_video.errors import UserError
from hunyuan_video.models import CausalVAE
from hunyuan_video.training.config import VAERun
from hunyuan_video.training.run import run
from hunyuan_video.training.tasks.vae import VAETask, gradient_l1

MODEL = {"block_out_channels": [4, 4, 8, 8], "layers_per_block": 1, "norm_groups": 2, "latent_channels": 4}
WORLD = {"name": "narrow", "size": 32, "num_frames": 9, "clips": 12}


def quiet(line):
    pass


@pytest.fixture
def task(tmp_path):
    config = VAERun(model=MODEL, world=WorldConfig(**WORLD), pca_clips=12, crop=16, crop_frames=5, full_batch=2)
    return VAETask(config, tmp_path / "run", quiet)


def test_crops_are_cut_from_the_clips_with_their_own_latents(task):
    video, latents = task.batch(torch.Generator().manual_seed(0), 3, 16, 5)
    assert video.shape == (3, 3, 5, 16, 16) and latents.shape == (3, 4, 2, 2, 2)
    assert video.min() >= -1 and video.max() <= 1
    torch.testing.assert_close(task.pca.encode(video), latents)
    again, _ = task.batch(torch.Generator().manual_seed(0), 3, 16, 5)
    assert torch.equal(video, again)


def test_the_bootstrap_decodes_the_pca_latents_and_the_joint_phase_its_own(task):
    generator = torch.Generator().manual_seed(0)
    loss, parts = task.loss(0, generator)
    loss.backward()
    assert {"l1", "mse", "latent", "kl"} <= set(parts)
    bootstrap = {name for name, p in task.network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(name.startswith("encoder") for name in bootstrap)  # by the latent regression only
    task.network.zero_grad(set_to_none=True)
    last = task.config.loop.steps - 1
    joint, parts = task.loss(last, generator)
    (joint - task.config.weight_latent_joint * parts["latent"]).backward()
    assert task.network.encoder.conv_in.conv.weight.grad.abs().sum() > 0


def test_after_the_bootstrap_clips_are_whole_or_cropped(tmp_path):
    settings = {"model": MODEL, "world": WorldConfig(**WORLD), "pca_clips": 12, "crop": 16, "crop_frames": 5,
                "full_batch": 2}  # fmt: skip
    cropped = VAETask(VAERun(**settings, full_crop=16, full_frames=5), tmp_path / "run", quiet)
    whole = VAETask(VAERun(**settings), tmp_path / "run", quiet)
    seen = []
    for task in (cropped, whole):
        task.network.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[2:])))
        task.loss(task.config.loop.steps - 1, torch.Generator().manual_seed(0))
    assert seen == [(5, 16, 16), (9, 32, 32)]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"full_crop": 12}, "full_crop must be a multiple of 8"),
        ({"full_frames": 4}, "full_frames 4k"),
        ({"full_crop": 40, "full_frames": 5}, "larger than the world's clips"),
    ],
)
def test_crops_that_do_not_fit_are_refused(settings, reason):
    with pytest.raises(UserError, match=reason):
        VAERun(model=MODEL, world=WorldConfig(**WORLD), crop=16, crop_frames=5, **settings)


def test_a_short_run_lowers_the_loss_exports_and_can_be_continued_as_decoder_only(tmp_path):
    config = tmp_path / "vae.yaml"
    loop = {"steps": 12, "batch": 2, "log_every": 4, "save_every": 12, "sheet_every": 0, "precision": "fp32"}
    content = {"kind": "vae", "output": str(tmp_path / "vae"), "model": MODEL, "world": WORLD, "loop": loop,
               "crop": 16, "crop_frames": 5, "full_batch": 1, "optimizer": {"lr": 3e-3, "warmup_steps": 1}}  # fmt: skip
    config.write_text(json.dumps(content))  # JSON is YAML
    run(config, report=quiet)
    lines = [json.loads(line) for line in (tmp_path / "vae/log.jsonl").read_text().splitlines()]
    assert lines[1]["l1"] < lines[0]["l1"]
    first = CausalVAE.from_pretrained(tmp_path / "vae/export")
    assert first.config.scaling_factor == pytest.approx(1 / lines[-1]["evaluation"]["latent_std"])
    assert (tmp_path / "vae/sheets/step_000012.png").exists()

    more = {**content, "output": str(tmp_path / "decoder"), "init_from": str(tmp_path / "vae/export"),
            "train": "decoder", "bootstrap": 0.0, "loop": {**loop, "steps": 2}}  # fmt: skip
    config.write_text(json.dumps(more))
    run(config, report=quiet)
    second = CausalVAE.from_pretrained(tmp_path / "decoder/export")
    for name, weight in second.state_dict().items():
        same = torch.equal(weight, first.state_dict()[name])
        assert same == name.startswith(("encoder.", "quant_conv.")), name
    assert second.config.scaling_factor == first.config.scaling_factor


def test_gradient_l1_sees_edges_not_levels():
    flat = torch.zeros(1, 3, 5, 8, 8)
    edge = flat.clone()
    edge[..., 4:] = 1
    assert gradient_l1(flat + 0.5, flat) == 0
    assert gradient_l1(edge, flat) == pytest.approx(1 / 7)
