"""Clips of a toyworld kept ready on disk, as pixels and as latents: training waits for neither renderer nor encoder.

Latents lie in shards of 512 clips, which any number of processes may fill.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hunyuan_video.data.drawing import drawn
from hunyuan_video.data.encoder import encode_clips, vae_fingerprint
from hunyuan_video.data.latent_dataset import unstorable
from hunyuan_video.data.world import WorldConfig
from hunyuan_video.errors import Print, UserError
from hunyuan_video.files import staged_file, staged_path
from hunyuan_video.media.pixels import to_unit
from hunyuan_video.models import CausalVAE
from hunyuan_video.models.precision import quick


def clip_path(config: WorldConfig, folder: Path) -> Path:
    return folder / f"clips_{config.name}_{config.size}_{config.num_frames}_{config.seed}_{config.clips}.npy"


def clip_cache(config: WorldConfig, folder: Path, report: Print = print) -> Tensor:
    """uint8 [clips, F, H, W, 3], mapped from a file whose name carries every setting; rendered once."""
    path = clip_path(config, folder)
    if not _whole(path, report):
        with staged_path(path) as temporary:
            _render_all(config, temporary, report)
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _whole(path: Path, report: Print, clips: int = 0) -> bool:
    """True for a file with all its numbers, of so many clips or more; a damaged one is told, and then made again by
    whoever asks.
    """
    if not path.exists():
        return False
    try:
        return len(np.load(path, mmap_mode="r")) >= clips  # compares the length with the header
    except (OSError, ValueError, EOFError) as error:
        report(f"{path}: damaged ({error}); it is not used")
        return False


def _render_all(config: WorldConfig, path: Path, report: Print) -> None:
    shape = (config.clips, config.num_frames, config.size, config.size, 3)
    clips = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    starts = range(0, config.clips, PIECE)
    for start, piece in zip(starts, drawn(config, starts, PIECE), strict=True):
        clips[start : start + PIECE] = piece
        if start % 1024 == 0:
            report(f"rendered {start}/{config.clips} clips")
    clips.flush()


SHARD = 512
PIECE = 64  # clips drawn at once
BATCH = {"cpu": 16, "cuda": 64}  # clips encoded at once


def shard_path(folder: Path, config: WorldConfig, key: str, shard: int, image_first: bool) -> Path:
    name = f"latents_{config.name}_{config.size}_{config.num_frames}_{config.seed}_{key}{'_image' * image_first}"
    return folder / name / f"{shard:05d}.npy"


def encode_shard(
    vae: CausalVAE, config: WorldConfig, shard: int, clips: Iterable[np.ndarray], path: Path, image_first: bool
) -> None:
    """Encode the pieces of a shard: float16 [up to 512, C, T, h, w], scaled to unit variance. Raises UserError."""
    parts, device, start = [], vae.quant_conv.weight.device, shard * SHARD
    for piece in clips:
        for frames in torch.from_numpy(piece).split(BATCH[device.type]):
            with quick(device.type):
                latents = encode_clips(vae, to_unit(frames.to(device)), image_first=image_first)
            if reason := unstorable(latents):
                raise UserError(f"toyworld:{config.name}, clips {start} to {start + len(frames) - 1}: latents {reason}")
            parts.append(latents.half().cpu().numpy())
            start += len(frames)
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
    """float16 [clips, C, T, h, w] of `encode_clips`; missing shards of 512 clips, the last of as many as are left, are
    made now.

    From the clips of a `clip_cache` beside the folder, in `clips`, where that has whole shards; else they are drawn.
    """
    key = vae_fingerprint(vae)
    shards = [range(start, min(start + SHARD, config.clips)) for start in range(0, config.clips, SHARD)]
    paths = [shard_path(folder, config, key, shard, image_first) for shard in range(len(shards))]
    missing = [shard for shard, path in enumerate(paths) if not _whole(path, report, len(shards[shard]))]
    piece = min(PIECE, SHARD)
    starts = [start for shard in missing for start in shards[shard][::piece]]
    ready = clip_path(config, folder.parent / "clips")
    if _whole(ready, report):
        clips = np.load(ready, mmap_mode="r")
        pieces: Iterator[np.ndarray] = (clips[start : start + piece].copy() for start in starts)
    else:
        pieces = drawn(config, starts, piece)  # of all shards: processes that draw go on while one is written
    for shard in missing:
        report(f"encoding clips {shards[shard][0]}..{shards[shard][-1]} of {config.clips}")
        count = len(shards[shard][::piece])
        encode_shard(vae, config, shard, islice(pieces, count), paths[shard], image_first)
    return torch.cat([torch.from_numpy(np.load(path)) for path in paths])[: config.clips]  # other runs may need more
