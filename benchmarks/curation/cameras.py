"""Camera moves over photographs, with the class that each shows: the labelled cases of the camera classifier."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.curation.media import photos
from hunyuan_video.data.toyworld.geometry import apply, camera_matrix
from hunyuan_video.data.toyworld.vocabulary import CAMERAS

SIZE = (144, 256)
REACH = 0.62  # of the picture's halves that the view sees, so that a moving one stays on the picture


def move(  # uint8 [F, 144, 256, 3]
    picture: np.ndarray, camera: str, frames: int = 36, strength: float = 1.0, phase: float = 0.0
) -> np.ndarray:
    """A camera of the toy world's definitions over a picture: pans by a fifth of the height, zooms by half."""
    tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
    height, width = SIZE
    y, x = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in SIZE)
    unit = 64 / height
    progress = torch.linspace(0, 1, frames)
    matrices = camera_matrix(camera, progress, (phase, 1 + phase, 2 + phase, 3 + phase), strength)
    world_x, world_y = apply(matrices, unit * x.view(1, 1, -1), unit * y.view(1, -1, 1))
    grid = torch.stack((world_x / (32 * width / height), world_y / 32), -1) * REACH
    views = F.grid_sample(tensor.expand(frames, -1, -1, -1), grid.expand(frames, height, width, 2),
                          mode="bilinear", padding_mode="reflection", align_corners=False)  # fmt: skip
    return views.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def cases(strengths: tuple[float, ...] = (0.6, 1.0)) -> Iterator[tuple[str, str, np.ndarray]]:
    """(class, picture's name, clip) of every class over every photograph."""
    for index, (name, picture) in enumerate(photos()):
        for camera in CAMERAS:
            for strength in strengths:
                yield camera, name, move(picture, camera, strength=strength, phase=0.7 * index)
