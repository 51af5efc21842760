"""Generated videos with known shots, for tests of curation: textures that a camera moves over."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hunyuan_video.media.write import save_video


def texture(seed: int, height: int = 200, width: int = 320) -> np.ndarray:  # uint8 [H, W, 3]
    """Soft spots of random colors over a random ground, different for every seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    picture = np.broadcast_to(rng.uniform(40, 215, 3).astype(np.float32), (height, width, 3)).copy()
    for _ in range(60):
        center, radius = rng.uniform((0, 0), (height, width)), rng.uniform(4, 28)
        spot = np.clip(1.5 - np.hypot(y - center[0], x - center[1]) / radius, 0, 1)[..., None]
        picture = picture * (1 - spot) + rng.uniform(0, 255, 3) * spot
    return picture.round().astype(np.uint8)


def pan(seed: int, frames: int, height: int = 96, width: int = 160, speed: float = 1.5) -> np.ndarray:
    """A window that goes to and fro over a texture: uint8 [F, height, width, 3]; speed in pixels a frame."""
    picture = texture(seed)
    room = picture.shape[1] - width
    ways = np.arange(frames) * speed % (2 * room)
    lefts = np.minimum(ways, 2 * room - ways).round().astype(int)
    return np.stack([picture[40 : 40 + height, left : left + width] for left in lefts])


def write_video(path: Path, shots: list[np.ndarray], fps: float = 25.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_video(path, np.concatenate(shots), fps)
    return path
