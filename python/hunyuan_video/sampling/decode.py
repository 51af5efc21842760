"""Latents to frames: the VAE's decoder, one video at a time, and the output types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hunyuan_video.errors import UserError, explained_memory_errors

if TYPE_CHECKING:
    from hunyuan_video.models import CausalVAE

TILED = "use vae_mode 'tiled' (--vae-mode tiled)"


def decode_latents(
    vae: CausalVAE,
    latents: Tensor,  # [N, C, T, h, w] float32, model space
    mode: str = "auto",
) -> Tensor:
    """Videos [N, 3, F, H, W] in 0..1, float32 on the CPU; one video is decoded at a time.

    mode "auto" is one pass where a video fits in the VAE's tile. A larger one is decoded exactly, without seams and
    within 4 GiB, on a CPU; on a GPU it is decoded in tiles, as the released program does.
    """
    weight = next(vae.parameters())
    chosen = _automatic(vae, latents, weight.device) if mode == "auto" else mode
    videos = []
    for one in latents.split(1):
        if not one.isfinite().all():
            raise UserError("the latents contain NaN or infinity; sample again with --dtype float32 (or bfloat16)")
        with torch.no_grad(), explained_memory_errors("decoding", TILED):
            try:
                video = vae.decode((one / vae.config.scaling_factor).to(weight.device, weight.dtype), mode=chosen)
            except ValueError as error:  # exact mode cannot hold the video within its budget
                raise UserError(f"decoding: {error}; {TILED}") from error
        videos.append((video.float().cpu() / 2 + 0.5).clamp_(0, 1))
    return torch.cat(videos)


def _automatic(vae: CausalVAE, latents: Tensor, device: torch.device) -> str:
    config = vae.config
    frames, size = config.tile_frames // config.temporal_compression, config.tile_size // config.spatial_compression
    if latents.shape[2] <= frames and max(latents.shape[3:]) <= size:
        return "plain"
    return "exact" if device.type == "cpu" else "tiled"


def to_uint8(video: Tensor) -> Tensor:  # [N, 3, F, H, W] in 0..1 -> uint8 [N, F, H, W, 3]
    """Rounds to the nearest of the 256 values (truncation would darken by half a level)."""
    return (video * 255).round_().to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()


def as_output(video: Tensor, output_type: str) -> Any:  # video: [N, 3, F, H, W] float32 in 0..1
    """The frames of a SampleOutput: "pt" the tensor itself, "np" uint8 [N, F, H, W, 3], "pil" images per video."""
    if output_type == "pt":
        return video
    frames = to_uint8(video).numpy()
    if output_type == "np":
        return frames
    from PIL import Image

    return [[Image.fromarray(frame) for frame in one] for one in frames]
