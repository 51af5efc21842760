"""VAEs that compress otherwise than the released one: sampling, encoding and training steps take their grid from it."""

from __future__ import annotations

import pytest
import torch
from helpers.random_checkpoint import write_random_checkpoint
from helpers.small_parts import MODEL

from hunyuan_video import ArgumentError, HunyuanVideoPipeline
from hunyuan_video.cli import main
from hunyuan_video.data import cache
from hunyuan_video.data.latent_dataset import EncodedDataset
from hunyuan_video.data.world import WorldConfig
from hunyuan_video.errors import UserError
from hunyuan_video.models import VAEConfig
from hunyuan_video.models.grid import Grid
from hunyuan_video.training.config import EncodedFlowRun, FlowRun, LoopConfig, StageConfig, StagesRun, VAERun
from hunyuan_video.training.tasks.flow import FlowTask
from hunyuan_video.training.tasks.flow_cached import cached_flow
from hunyuan_video.training.tasks.flow_encoded import EncodedData
from hunyuan_video.training.tasks.flow_staged import StagedData, grid_of
from hunyuan_video.training.tasks.vae import VAETask

LEVELS = {"block_out_channels": [8] * 5, "layers_per_block": 1, "norm_groups": 4, "spatial_compression": 16}
TEXT = {"text_dim": 16, "pooled_text_dim": 16}


@pytest.fixture(scope="module", params=[8])
def temporal(request):
    return request.param


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, temporal):
    config = VAEConfig(**LEVELS, temporal_compression=temporal)
    return write_random_checkpoint(tmp_path_factory.mktemp("compression"), vae_config=config)


@pytest.fixture(scope="module")
def data(checkpoint, temporal, tmp_path_factory):
    """A data set of two latent frames of 2 x 2 latents each."""
    folder = tmp_path_factory.mktemp("encoded") / "data"
    command = ["encode", "toyworld:narrow", "-o", str(folder), "--model", str(checkpoint), "--clips", "4"]
    assert main([*command, "--bucket", f"{temporal + 1}x32x32"]) == 0
    return folder


def stepped(task) -> None:
    """One step of a task, with gradients that are there and finite."""
    if hasattr(task, "begin"):
        task.begin(0, 0, 1)
    loss, _ = task.loss(0, torch.Generator().manual_seed(1))
    loss.backward()
    gradients = [parameter.grad for parameter in task.network.parameters() if parameter.grad is not None]
    assert loss.isfinite() and gradients and all(gradient.isfinite().all() for gradient in gradients)


def test_sampling(checkpoint, temporal):
    pipe = HunyuanVideoPipeline.from_pretrained(checkpoint, device="cpu")
    assert pipe.grid == Grid(16, temporal, 16, 2)
    for mode in ("plain", "exact"):
        out = pipe("a star", height=64, width=96, num_frames=2 * temporal + 1, seed=1, vae_mode=mode)
        assert out.latents.shape == (1, 16, 3, 4, 6) and out.frames.shape == (1, 2 * temporal + 1, 64, 96, 3)
    with pytest.raises(ArgumentError, match="height must be a multiple of 32 pixels, got 48; nearest: 32 or 64"):
        pipe("a star", height=48, num_frames=temporal + 1)
    with pytest.raises(ArgumentError, match=rf"num_frames must be {temporal}k \+ 1, got 3; nearest: 1 or"):
        pipe("a star", height=64, width=64, num_frames=3)


def test_encoding(checkpoint, data, temporal, tmp_path, capsys):
    clips = EncodedDataset(data)
    assert clips.clip(f"{temporal + 1}x32x32", 0, 0).latents.shape == (16, 2, 2, 2)
    command = ["encode", "toyworld:narrow", "-o", str(tmp_path / "x"), "--model", str(checkpoint), "--clips", "1"]
    assert main([*command, "--bucket", "9x16x16"]) == 1
    assert f"frames must be {temporal}k + 1, height and width multiples of 32" in capsys.readouterr().err


def test_flow_on_cached_clips(checkpoint, temporal, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SHARD", 4)
    world = WorldConfig(size=32, num_frames=temporal + 1, clips=2)
    config = FlowRun(vae=str(checkpoint / "vae"), text=str(checkpoint), model=MODEL | TEXT, world=world,
                     loop=LoopConfig(batch=2))  # fmt: skip
    task = cached_flow(config, tmp_path / "run", lambda line: None)
    assert task.data.clips.shape == (16, 2, 2, 2)
    stepped(task)
    with pytest.raises(UserError, match=rf"world: num_frames must be {temporal}k \+ 1 and size a multiple of 16"):
        cached_flow(FlowRun(**{**vars(config), "world": WorldConfig(size=24)}), tmp_path / "run", print)


def test_flow_on_encoded_clips(checkpoint, data):
    config = EncodedFlowRun(data=str(data), checkpoint=str(checkpoint), model=MODEL | TEXT, held_out=1)
    task = FlowTask(config, EncodedData(config), lambda line: None)
    assert list(task.data.frames.values()) == [2]
    stepped(task)


def test_flow_in_stages(checkpoint, temporal):
    stage = StageConfig(steps=1, anchors=(64,), frames=(temporal + 1,), max_tokens=16, max_batch=4)
    config = StagesRun(encoders=str(checkpoint), model=MODEL | TEXT, aspects=("1:1", "2:1"), stages=(stage,))
    assert grid_of(config) == Grid(16, temporal, 16, 2)
    staged = StagedData(config, stage)
    assert [str(bucket) for bucket in staged.buckets] == [f"{temporal + 1}x64x64", f"{temporal + 1}x32x128"]
    assert [staged.size_of(bucket) for bucket in staged.buckets] == [2, 2]  # of 8 tokens each
    stepped(FlowTask(config, staged, lambda line: None))


def test_the_vae_itself(temporal, tmp_path):
    model = {**LEVELS, "temporal_compression": temporal, "latent_channels": 4}
    world = WorldConfig(size=64, num_frames=2 * temporal + 1, clips=12)
    config = VAERun(model=model, world=world, pca_clips=12, crop=32, crop_frames=temporal + 1, full_batch=2)
    task = VAETask(config, tmp_path / "run", lambda line: None)
    video, latents = task.batch(torch.Generator().manual_seed(0), 3, 32, temporal + 1)
    assert video.shape == (3, 3, temporal + 1, 32, 32) and latents.shape == (3, 4, 2, 2, 2)
    assert task.pca.decode(latents).shape == video.shape
    stepped(task)
    with pytest.raises(UserError, match=rf"crop must be a multiple of 16 and crop_frames {temporal}k \+ 1, got 24"):
        VAERun(model=model, world=world, crop=24, crop_frames=temporal + 1)
