"""Clips of a toyworld kept ready on disk, as pixels and as latents: training waits for neither renderer nor encoder.

Latents lie in shards of 512 clips, which any number of processes may fill.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hunyuan_video.data.encoder import encode_clips, vae_fingerprint
from hunyuan_video.data.latent_dataset import unstorable
from hunyuan_video.data.toyworld import render
from hunyuan_video.data.world import WorldConfig, scenes_of
from hunyuan_video.errors import Print, UserError
from hunyuan_video.files import staged_file, staged_path
from hunyuan_video.media.pixels import to_unit
from hunyuan_video.models import CausalVAE


def clip_cache(config: WorldConfig, folder: Path, report: Print = print) -> np.ndarray:
    """uint8 [clips, F, H, W, 3], memory-mapped; rendered once under a name that carries every setting."""
    name = f"clips_{config.name}_{config.size}_{config.num_frames}_{config.seed}_{config.clips}.npy"
    path = folder / name
    if not path.exists():
        with staged_path(path) as temporary:
            _render_all(config, temporary, report)
    return np.load(path, mmap_mode="r")


def _render_all(config: WorldConfig, path: Path, report: Print) -> None:
    shape = (config.clips, config.num_frames, config.size, config.size, 3)
    clips = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for start in range(0, config.clips, 64):
        count = min(64, config.clips - start)
        scenes = scenes_of(config, start, count)
        clips[start : start + count] = render(scenes, num_frames=config.num_frames, size=config.size).numpy()
        if start % 1024 == 0:
            report(f"rendered {start}/{config.clips} clips")
    clips.flush()


SHARD = 512


def shard_path(folder: Path, config: WorldConfig, key: str, shard: int, image_first: bool) -> Path:
    name = f"latents_{config.name}_{config.size}_{config.num_frames}_{config.seed}_{key}{'_image' * image_first}"
    return folder / name / f"{shard:05d}.npy"


def encode_shard(
    vae: CausalVAE, config: WorldConfig, shard: int, path: Path, image_first: bool, batch: int = 16
) -> None:
    """Render and encode clips [shard * 512, shard * 512 + 512): float16 [512, C, T, h, w], scaled to unit variance."""
    parts = []
    for start in range(shard * SHARD, (shard + 1) * SHARD, batch):
        frames = render(scenes_of(config, start, batch), num_frames=config.num_frames, size=config.size)
        with torch.autocast("cpu", torch.bfloat16):
            latents = encode_clips(vae, to_unit(frames), image_first=image_first)
        if reason := unstorable(latents):
            raise UserError(f"toyworld:{config.name}, clips {start} to {start + batch - 1}: latents {reason}")
        parts.append(latents.half().numpy())
    with staged_file(path) as file:
        np.save(file, np.concatenate(parts))


def latent_cache(
    vae: CausalVAE,
    config: WorldConfig,
    folder: Path,
    report: Print = print,
    *,
    image_first: bool = False,
) -> Tensor:
    """float16 [clips, C, T, h, w] of `encode_clips`; missing shards of 512 clips are made now."""
    key = vae_fingerprint(vae)
    shards = []
    for shard in range(-(-config.clips // SHARD)):
        path = shard_path(folder, config, key, shard, image_first)
        if not path.exists():
            report(f"encoding clips {shard * SHARD}..{(shard + 1) * SHARD - 1} of {config.clips}")
            encode_shard(vae, config, shard, path, image_first)
        shards.append(torch.from_numpy(np.load(path)))
    return torch.cat(shards)[: config.clips]
