"""The start of video-to-video and image-to-image: read, cut to the video's size, encoded, and mixed with the noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.errors import ArgumentError, explained_memory_errors
from hunyuan_video.flow import interpolate
from hunyuan_video.media.images import read_image
from hunyuan_video.media.pixels import check_finite, to_unit
from hunyuan_video.media.read import fit, read_clip, video_size
from hunyuan_video.models.grid import Grid
from hunyuan_video.sampling.decode import automatic_mode
from hunyuan_video.sampling.denoise import schedule_for

if TYPE_CHECKING:
    from hunyuan_video.models import CausalVAE
    from hunyuan_video.sampling.models import LoadedModels
    from hunyuan_video.sampling.request import Settings

FORMS = "a file, a PIL image or a list of them, uint8 [F, H, W, 3] or [H, W, 3]"


def from_start(
    models: LoadedModels,
    video: Any,
    settings: Settings,
    noise: Tensor,  # [N, C, T, h, w] float32, prompt by prompt
) -> Tensor:  # [N, C, T, h, w] float32
    """The latents before the first step: the noise itself without a start, else start and noise at that step's level.

    video: as `HunyuanVideoPipeline.__call__` takes it. ArgumentError or UserError where it cannot be used.
    """
    if video is None:
        return noise
    if not models.has("vae"):
        raise ArgumentError("video: this pipeline has no vae to encode it with")
    prompts = len(noise) // settings.num_videos_per_prompt
    starts = _one_each(video, prompts)
    clips = [read_start(start, settings, models.grid, models.defaults.fps) for start in starts]
    latents = torch.cat([encode_start(models.vae, clip, noise) for clip in clips])
    latents = latents.repeat_interleave(len(noise) // len(latents), 0)
    return interpolate(latents, noise, schedule_for(settings).sigmas[:1].expand(len(noise)))


def _one_each(video: Any, prompts: int) -> list[Any]:
    """One start for all prompts, or one for each; a list of pictures is one video."""
    several = isinstance(video, list | tuple) and not all(_is_picture(entry) for entry in video)
    if not several and getattr(video, "ndim", 0) != 5:
        return [video]
    if len(video) not in (1, prompts):
        raise ArgumentError(f"video has {len(video)} entries for {prompts} prompts; give one, or one each")
    return list(video)


def _is_picture(entry: Any) -> bool:
    from PIL import Image

    return isinstance(entry, Image.Image) or getattr(entry, "ndim", 0) == 3


def read_start(video: Any, settings: Settings, grid: Grid, fps: float) -> Tensor:  # uint8 [F, H, W, 3]
    """The frames of one start at the run's size; a single picture stands still.

    fps: frames per second that are read of a file. ArgumentError for what has too few frames or is none of `FORMS`,
    UserError for a file that cannot be read.
    """
    frames, height, width = settings.num_frames, settings.height, settings.width
    if isinstance(video, str | Path):
        count = video_size(video, fps, frames)[0]
        _check_length(count, frames, grid, f" at {fps:g} per second")
        clip = read_clip(video, Bucket(min(count, frames), height, width), fps)
    else:
        pictures = _pictures(video)
        _check_length(len(pictures), frames, grid)
        clip = torch.stack([fit(np.asarray(read_image(entry)), 1.0, height, width) for entry in pictures[:frames]])
    return clip.expand(frames, -1, -1, -1)


def _pictures(video: Any) -> Sequence[Any]:
    if _is_picture(video):
        return [video]
    if isinstance(video, Tensor):
        video = video.detach().cpu().numpy()
    if isinstance(video, np.ndarray):
        if video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3 or not video.size:
            raise ArgumentError(f"video must be {FORMS}, got {video.dtype} {list(video.shape)}")
        return list(video)
    if isinstance(video, list | tuple) and video and all(_is_picture(entry) for entry in video):
        return video
    raise ArgumentError(f"video must be {FORMS}, got {type(video).__name__}")


def _check_length(count: int, frames: int, grid: Grid, rate: str = "") -> None:
    if 1 < count < frames:
        most = count - (count - 1) % grid.temporal
        raise ArgumentError(f"video has {count} frames{rate} and num_frames is {frames}; lower it to {most}")


def encode_start(
    vae: CausalVAE,
    clip: Tensor,  # uint8 [F, H, W, 3]
    like: Tensor,  # [N, C, T, h, w], latents of its size
) -> Tensor:  # [1, C, T, h, w] float32 on the CPU, model space
    """Mean of the posterior of one clip; a large one is encoded as videos of its size are decoded."""
    weight = next(vae.parameters())
    mode = automatic_mode(vae, like, weight.device)
    pixels = to_unit(clip[None]).to(weight.device, weight.dtype)
    with torch.no_grad(), explained_memory_errors("encoding the start", "lower height, width or num_frames"):
        mean = vae.encode(pixels, mode=mode).mode()
    check_finite(mean, "the latents of the start", "load the VAE in float32 (--dtype float32)")
    return mean.float().cpu() * vae.config.scaling_factor
