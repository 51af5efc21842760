"""Clips of a toyworld kept ready on disk as one uint8 array, so that training never waits for the renderer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hunyuan_video.checkpoints.atomic import staged_path
from hunyuan_video.data.toyworld import WORLDS, Scene, render
from hunyuan_video.training.config import WorldConfig


def scenes_of(config: WorldConfig, start: int, count: int, seed: int | None = None) -> list[Scene]:
    world = WORLDS[config.name]
    return [world.scene(index, seed=config.seed if seed is None else seed) for index in range(start, start + count)]


def to_unit(frames: Tensor) -> Tensor:  # uint8 [N, F, H, W, 3] -> float32 [N, 3, F, H, W] in [-1, 1]
    return frames.permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1.0)


def to_frames(video: Tensor) -> Tensor:  # [N, 3, F, H, W] in [-1, 1] -> uint8 [N, F, H, W, 3], rounded
    return video.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()


def held_out(config: WorldConfig, count: int) -> tuple[Tensor, list[Scene]]:
    """Clips of a seed that training never uses: uint8 [N, F, H, W, 3] and their scenes."""
    scenes = scenes_of(config, 0, count, config.held_out_seed)
    return render(scenes, num_frames=config.num_frames, size=config.size), scenes


def clip_cache(config: WorldConfig, folder: Path, report=print) -> np.ndarray:
    """uint8 [clips, F, H, W, 3], memory-mapped; rendered once under a name that carries every setting."""
    name = f"clips_{config.name}_{config.size}_{config.num_frames}_{config.seed}_{config.clips}.npy"
    path = folder / name
    if not path.exists():
        with staged_path(path) as temporary:
            _render_all(config, temporary, report)
    return np.load(path, mmap_mode="r")


def _render_all(config: WorldConfig, path: Path, report) -> None:
    shape = (config.clips, config.num_frames, config.size, config.size, 3)
    clips = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for start in range(0, config.clips, 64):
        count = min(64, config.clips - start)
        scenes = scenes_of(config, start, count)
        clips[start : start + count] = render(scenes, num_frames=config.num_frames, size=config.size).numpy()
        if start % 1024 == 0:
            report(f"rendered {start}/{config.clips} clips")
    clips.flush()
