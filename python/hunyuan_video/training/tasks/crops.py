"""Random crops of clips on the VAE's grid, some of them where the closed-form linear code errs most.

Nearly all of a trained VAE's error sits around what moves: on the wide world 91 % of it in 12 % of the pixels. Those
are the places that the linear code (`pca`) cannot keep, too, so its error tells where a crop teaches something.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.media.pixels import to_unit
from hunyuan_video.models.grid import Grid
from hunyuan_video.training.tasks.pca import PCALatents, blocks_of


def random_crops(
    clips: Tensor,  # uint8 [N, F, H, W, 3]
    pca: PCALatents,
    shape: tuple[int, int],  # frames and pixels of each crop
    count: int,
    focus: float,  # share of them that are drawn by the linear code's error; the others anywhere
    generator: torch.Generator,  # of the CPU
) -> Tensor:
    """`count` crops [count, 3, frames, pixels, pixels] in [-1, 1], each of a random clip."""
    picks = torch.randint(len(clips), (count,), generator=generator)
    chosen = clips[picks.to(clips.device)]
    frames, pixels = shape
    grid = pca.grid
    starts = _anywhere(chosen, grid, shape, generator)
    if focus > 0:
        led = torch.rand(count, generator=generator, dtype=torch.float32) < focus
        if led.any():
            starts[led] = _by_error(chosen[led.to(chosen.device)], pca, shape, generator)
    t, s = grid.temporal, grid.spatial
    crops = [
        clip[t * f : t * f + frames, s * y : s * y + pixels, s * x : s * x + pixels]
        for clip, (f, y, x) in zip(chosen, starts.tolist(), strict=True)
    ]
    return to_unit(torch.stack(crops))


def _room(clips: Tensor, grid: Grid, shape: tuple[int, int]) -> tuple[int, int, int]:
    """Number of places for a crop along time, height and width."""
    _, total, height, width, _ = clips.shape
    frames, pixels = shape
    s = grid.spatial
    return (total - frames) // grid.temporal + 1, (height - pixels) // s + 1, (width - pixels) // s + 1


def _anywhere(clips: Tensor, grid: Grid, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """First frame, row and column of a crop in each clip, in latents: [N, 3] int64."""
    times, rows, columns = _room(clips, grid, shape)
    starts = []
    for _ in clips:
        places = [torch.randint(room, (1,), generator=generator) for room in (rows, columns, times)]
        starts.append(torch.cat([places[2], places[0], places[1]]))
    return torch.stack(starts)


def _by_error(clips: Tensor, pca: PCALatents, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """The same, a place as likely as the linear code's squared error in the crop is large."""
    rooms = _room(clips, pca.grid, shape)
    error = linear_error(to_unit(clips), pca)
    window = tuple(size - room + 1 for size, room in zip(error.shape[1:], rooms, strict=True))
    weight = F.avg_pool3d(error[:, None], window, 1)[:, 0].flatten(1).double().cpu()
    place = torch.multinomial(weight + 1e-9, 1, generator=generator)[:, 0]
    return torch.stack(torch.unravel_index(place, rooms), 1)


def linear_error(video: Tensor, pca: PCALatents) -> Tensor:  # [B, 3, F, H, W] in [-1, 1] -> [B, T, h, w]
    """Sum of squared errors of the linear code over the pixels of each latent."""
    difference = pca.decode(pca.encode(video)) - video
    return torch.cat([part.square().sum(-1) for part in blocks_of(difference, pca.grid)], dim=1)
