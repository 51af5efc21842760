"""Latents to frames: the VAE's decoder, one video at a time, and the output types."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hunyuan_video.distributed.decoding import decode_tiles
from hunyuan_video.distributed.exact_decoding import decode_frames
from hunyuan_video.errors import PrecisionWarning, UserError, explained_memory_errors, notify
from hunyuan_video.media.pixels import check_finite, to_bytes, to_display
from hunyuan_video.models.vae.exact import altered

if TYPE_CHECKING:
    from hunyuan_video.distributed.team import Team
    from hunyuan_video.models import CausalVAE

TILED = "use vae_mode 'tiled' (--vae-mode tiled)"


def decode_latents(
    vae: CausalVAE,
    latents: Tensor,  # [N, C, T, h, w] float32, model space
    mode: str = "auto",
    budget: int | None = None,
    team: Team | None = None,
) -> Tensor:
    """Videos [N, 3, F, H, W] in 0..1, float32 on the CPU; one video is decoded at a time. budget: of exact mode, bytes.

    team: ranks that decode together, all of which call this; the first one gets the videos, the others none.

    mode "auto" is one pass where a video fits in the VAE's tile. A larger one is decoded exactly, without seams and
    within 4 GiB, on a CPU; on a GPU, and by a decoder with hooks or other layers in it, it is decoded in tiles, as the
    released program does.
    """
    weight = next(vae.parameters())
    chosen = automatic_mode(vae, latents, weight.device) if mode == "auto" else mode
    videos = []
    for latent in latents.split(1):
        check_finite(latent, "the latents", "sample again with --dtype float32 (or bfloat16)")
        video = _decoded(vae, latent, chosen, budget, team)
        overflows = weight.dtype == torch.float16 and not (video is None or bool(video.isfinite().all()))
        if overflows if team is None else team.ranks.agree(overflows):
            text = "the VAE leaves the range of float16 on this video; it decodes again in bfloat16"
            notify(text, PrecisionWarning)
            vae = deepcopy(vae).to(torch.bfloat16)
            weight = next(vae.parameters())
            video = _decoded(vae, latent, chosen, budget, team)
        if video is None:
            continue
        check_finite(video, "the decoded frames", _remedy(weight.dtype))
        videos.append(to_display(video))
    return torch.cat(videos) if videos else latents.new_empty((0, vae.config.out_channels, 0, 0, 0), device="cpu")


def _decoded(
    vae: CausalVAE,
    latents: Tensor,  # [1, C, T, h, w]
    mode: str,
    budget: int | None,
    team: Team | None,
) -> Tensor | None:  # [1, 3, F, H, W] on the CPU; None on ranks that get no video
    weight = next(vae.parameters())
    if not (team is None or team.first or mode in ("tiled", "exact")):
        return None  # the first one does it alone
    with torch.no_grad(), explained_memory_errors("decoding", TILED):
        try:
            inputs = (latents / vae.config.scaling_factor).to(weight.device, weight.dtype)
            if team is not None and mode != "plain":
                tiles = mode == "tiled"
                shared = partial(decode_tiles, vae, inputs) if tiles else partial(decode_frames, vae, inputs, budget)
                video = shared(team.everyone)
                return None if video is None else video.cpu()
            return vae.decode(inputs, mode=mode, memory_budget=budget if mode == "exact" else None).cpu()
        except ValueError as error:  # exact mode cannot hold the video within its budget
            raise UserError(f"decoding: {error}; {TILED}") from error


def _remedy(dtype: torch.dtype) -> str:
    if dtype == torch.float32:
        return "the VAE's weights are damaged, or not for these latents: give the checkpoint that both belong to"
    return "decode in float32 (--dtype float32)"


def automatic_mode(vae: CausalVAE, latents: Tensor, device: torch.device) -> str:  # latents: [N, C, T, h, w]
    """Mode that "auto" stands for, for videos of this size on this device."""
    config = vae.config
    frames, size = config.tile_frames // config.temporal_compression, config.tile_size // config.spatial_compression
    if latents.shape[2] <= frames and max(latents.shape[3:]) <= size:
        return "plain"
    return "exact" if device.type == "cpu" and not altered(vae.decoder) else "tiled"


def to_uint8(video: Tensor) -> Tensor:  # [N, 3, F, H, W] in 0..1 -> uint8 [N, F, H, W, 3]
    return to_bytes(video).permute(0, 2, 3, 4, 1).contiguous()


def as_output(video: Tensor, output_type: str) -> Any:  # video: [N, 3, F, H, W] float32 in 0..1
    """The frames of a SampleOutput: "pt" the tensor itself, "np" uint8 [N, F, H, W, 3], "pil" images per video."""
    if output_type == "pt":
        return video
    frames = to_uint8(video).numpy()
    if output_type == "np":
        return frames
    from PIL import Image

    return [[Image.fromarray(frame) for frame in clip] for clip in frames]
