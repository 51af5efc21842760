"""Clips of a toyworld as a run names them: which world, pixels and frames, which scenes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hunyuan_video.data.toyworld import WORLDS, Scene, render
from hunyuan_video.errors import UserError


@dataclass(frozen=True)
class WorldConfig:
    """The clips of a run: a toyworld by name, pixels and frames, and how many training clips are kept ready on disk."""

    name: str = "narrow"
    size: int = 64
    num_frames: int = 17
    clips: int = 4000
    seed: int = 1
    held_out_seed: int = 4242

    def __post_init__(self) -> None:
        if self.name not in WORLDS:
            raise UserError(f"name must be one of {', '.join(WORLDS)}, got {self.name!r}")
        if self.num_frames % 4 != 1 or self.size < 16 or self.size % 16:
            raise UserError(
                f"num_frames must be 4k + 1 and size a multiple of 16, got {self.num_frames} and {self.size}"
            )


def scenes_of(config: WorldConfig, start: int, count: int, seed: int | None = None) -> list[Scene]:
    world = WORLDS[config.name]
    return [world.scene(index, seed=config.seed if seed is None else seed) for index in range(start, start + count)]


def held_out(config: WorldConfig, count: int) -> tuple[Tensor, list[Scene]]:
    """Clips of a seed that training never uses: uint8 [N, F, H, W, 3] and their scenes."""
    scenes = scenes_of(config, 0, count, config.held_out_seed)
    return render(scenes, num_frames=config.num_frames, size=config.size), scenes
