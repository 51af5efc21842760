"""Latents of a toyworld, encoded once: shards of 512 clips, any number of processes may fill them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hunyuan_video.checkpoints.atomic import staged_file
from hunyuan_video.data.toyworld import render
from hunyuan_video.flow import with_first_frame
from hunyuan_video.models import CausalVAE
from hunyuan_video.training.clips import scenes_of, to_unit
from hunyuan_video.training.config import WorldConfig

SHARD = 512


def fingerprint(vae: CausalVAE) -> str:
    """A short hash of the VAE's encoder weights: latents of another encoder are never mixed in."""
    digest = hashlib.sha256()
    for name, weight in sorted(vae.state_dict().items()):
        if not name.startswith(("decoder.", "post_quant_conv.")):
            digest.update(name.encode())
            digest.update(weight.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


@torch.no_grad()
def encode_clips(
    vae: CausalVAE,
    video: Tensor,  # [N, 3, F, H, W] in [-1, 1]
    *,
    image_first: bool = False,
) -> Tensor:
    """Means of the posterior in model space: [N, C, T, h, w] float32.

    image_first: for image-to-video the first latent is that of the first frame encoded alone, as an image is when one
    samples. It is not the clip's own: the norms and the attention of the encoder see all frames.
    """
    latents = vae.encode(video).mode().float()
    if image_first:
        latents = with_first_frame(latents, vae.encode(video[:, :, :1]).mode())
    return latents * vae.config.scaling_factor


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
            parts.append(encode_clips(vae, to_unit(frames), image_first=image_first).half().numpy())
    with staged_file(path) as file:
        np.save(file, np.concatenate(parts))


def latent_cache(
    vae: CausalVAE, config: WorldConfig, folder: Path, report=print, *, image_first: bool = False
) -> Tensor:
    """float16 [clips, C, T, h, w] of `encode_clips`; missing shards of 512 clips are made now."""
    key = fingerprint(vae)
    shards = []
    for shard in range(-(-config.clips // SHARD)):
        path = shard_path(folder, config, key, shard, image_first)
        if not path.exists():
            report(f"encoding clips {shard * SHARD}..{(shard + 1) * SHARD - 1} of {config.clips}")
            encode_shard(vae, config, shard, path, image_first)
        shards.append(torch.from_numpy(np.load(path)))
    return torch.cat(shards)[: config.clips]
