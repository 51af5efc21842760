"""Clips drawn by several processes are those that one draws, in order."""

import math

import numpy as np
import pytest
import torch

from hunyuan_video.data.cache import clip_cache, latent_cache
from hunyuan_video.data.drawing import draw, drawn, in_order
from hunyuan_video.data.toyworld import render
from hunyuan_video.data.world import WorldConfig, scenes_of
from hunyuan_video.models import CausalVAE, VAEConfig

WORLD = WorldConfig(name="wide", size=16, num_frames=5, clips=70)


def quiet(line):
    pass


def test_results_come_in_order_from_one_process_and_from_two():
    calls = [(float(n),) for n in range(40)]
    expected = [math.sqrt(n) for n in range(40)]
    assert list(in_order(math.sqrt, calls, 1)) == expected
    assert list(in_order(math.sqrt, calls, 2)) == expected
    two = WorldConfig(**{**vars(WORLD), "workers": 2})
    for piece, start in zip(drawn(two, [0, 4], 4), [0, 4], strict=True):
        assert np.array_equal(piece, draw(WORLD, start, 4))


def test_cached_clips_are_those_of_the_world(tmp_path):
    clips = clip_cache(WORLD, tmp_path, quiet)  # the second piece is cut
    assert clips.shape == (70, 5, 16, 16, 3) and clips.dtype == torch.uint8
    assert torch.equal(clips[66:], render(scenes_of(WORLD, 66, 4), num_frames=5, size=16))


def test_missing_shards_of_latents_are_made_and_hold_their_own_clips(tmp_path):
    torch.manual_seed(1)
    vae = CausalVAE(VAEConfig(latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_groups=2))
    world = WorldConfig(**{**vars(WORLD), "clips": 1024, "num_frames": 1})
    whole = latent_cache(vae.eval(), world, tmp_path, quiet)
    (first,) = tmp_path.glob("*/00000.npy")
    kept = (first.parent / "00001.npy").stat().st_mtime_ns
    first.unlink()
    lines: list[str] = []
    assert torch.equal(latent_cache(vae, world, tmp_path, lines.append), whole)
    assert lines == ["encoding clips 0..511 of 1024"] and (first.parent / "00001.npy").stat().st_mtime_ns == kept
    first.write_bytes(first.read_bytes()[:-1])
    assert torch.equal(latent_cache(vae, world, tmp_path, lines.append), whole)
    assert "00000.npy: damaged (" in lines[1] and lines[2] == lines[0]


def test_a_world_is_encoded_up_to_its_last_clip_and_further_for_a_larger_one(tmp_path):
    torch.manual_seed(1)
    vae = CausalVAE(VAEConfig(latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_groups=2))
    worlds = [WorldConfig(**{**vars(WORLD), "clips": clips, "num_frames": 1}) for clips in (8, 70, 9)]
    lines: list[str] = []
    few, more, again = (latent_cache(vae.eval(), world, tmp_path, lines.append) for world in worlds)
    assert lines == ["encoding clips 0..7 of 8", "encoding clips 0..69 of 70"]  # the third finds what it needs
    (path,) = tmp_path.glob("*/*.npy")
    assert len(np.load(path)) == 70 and len(few) == 8 and len(more) == 70
    assert torch.allclose(few.float(), more[:8].float(), atol=1e-2) and torch.equal(again, more[:9])


def test_latents_are_made_of_clips_that_were_drawn_before(tmp_path, monkeypatch):
    torch.manual_seed(1)
    vae = CausalVAE(VAEConfig(latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_groups=2))
    world = WorldConfig(**{**vars(WORLD), "clips": 512, "num_frames": 1})
    whole = latent_cache(vae.eval(), world, tmp_path / "a" / "latents", quiet)
    clip_cache(world, tmp_path / "b" / "clips", quiet)
    monkeypatch.setattr("hunyuan_video.data.cache.drawn", None)
    assert torch.equal(latent_cache(vae, world, tmp_path / "b" / "latents", quiet), whole)


@pytest.mark.parametrize("length", [0, 60, -100])
def test_a_damaged_cache_is_told_and_made_again(tmp_path, length):
    whole, lines = clip_cache(WORLD, tmp_path, quiet).clone(), []
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes()[:length])
    assert torch.equal(clip_cache(WORLD, tmp_path, lines.append), whole)
    assert f"{path}: damaged (" in lines[0]
