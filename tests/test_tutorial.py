"""docs/tutorial.md runs as it is written, with ten small videos and a few steps, to a LoRA that changes videos."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from helpers.blocks import blocks_of

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.latent_dataset import EncodedDataset
from hunyuan_video.data.toyworld import WORLDS, caption, render
from hunyuan_video.media import read_clip, save_video

PAGE = Path(__file__).resolve().parents[1] / "docs/tutorial.md"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with ten mp4s of a toyworld and their captions."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    world = WORLDS["narrow"]
    scenes = [world.scene(number, seed=7) for number in range(10)]
    for number, (scene, clip) in enumerate(zip(scenes, render(scenes, num_frames=17), strict=True), start=1):
        save_video(f"videos/{number:02}.mp4", clip.numpy(), fps=8)
        (tmp_path / f"videos/{number:02}.txt").write_text(caption(scene, random.Random(number), "brief").text + "\n")
    return tmp_path


def fewer_steps(words: list[str]) -> list[str]:
    if words[0] != "train":
        return words
    return [*words, *(f"--set={entry}" for entry in ("loop.steps=4", "loop.save_every=2", "sample_steps=1"))]


def test_the_tutorial(workplace, capsys):
    blocks = blocks_of(PAGE)
    assert [block.language for block in blocks if block.runs] == ["sh", "sh", "sh", "sh", "python"]
    for block in blocks:
        if block.runs:
            block.run(fewer_steps)
    out = capsys.readouterr()
    assert "10 captioned videos" in out.out and "10 clips of 17x64x64" in out.out
    assert sum(map(len, EncodedDataset(workplace / "data/mine").buckets.values())) == 10
    assert (workplace / "runs/mine/export/lora.safetensors").stat().st_size < 2e6
    assert "['few_step', 'mine']" in out.out or "{'mine': 1.0}" in out.out
    made, before, half = (
        read_clip(f"{name}.mp4", Bucket(17, 64, 64), 8).numpy().astype(float) for name in ("mine", "before", "half")
    )
    assert np.abs(made - before).mean() > 0 and np.abs(half - before).mean() > 0 and np.abs(half - made).mean() > 0
