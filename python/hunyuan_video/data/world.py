"""Clips of a toyworld as a run names them: which world, pixels and frames, which scenes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hunyuan_video.data.toyworld import WORLDS, render
from hunyuan_video.data.toyworld.scene import AnyScene
from hunyuan_video.errors import UserError
from hunyuan_video.models.grid import Grid
from hunyuan_video.rules import AT_LEAST_ONE, limited


@dataclass(frozen=True)
class WorldConfig:
    """The clips of a run: a toyworld by name, pixels and frames, and how many training clips are kept ready on disk.

    workers: processes that draw them; they change none.
    """

    name: str = "narrow"
    size: int = 64
    num_frames: int = limited(17, AT_LEAST_ONE)
    clips: int = limited(4000, AT_LEAST_ONE)
    seed: int = 1
    held_out_seed: int = 4242
    workers: int = 1

    def __post_init__(self) -> None:
        if self.name not in WORLDS:
            raise UserError(f"name must be one of {', '.join(WORLDS)}, got {self.name!r}")

    def check(self, grid: Grid) -> None:
        """UserError unless the models that train on the clips divide them evenly."""
        if not grid.fits(self.num_frames, self.size, self.size):
            raise UserError(
                f"world: num_frames must be {grid.temporal}k + 1 and size a multiple of {grid.multiple}, "
                f"got {self.num_frames} and {self.size}"
            )


def scenes_of(config: WorldConfig, start: int, count: int, seed: int | None = None) -> list[AnyScene]:
    world = WORLDS[config.name]
    return [world.scene(index, seed=config.seed if seed is None else seed) for index in range(start, start + count)]


def held_out(config: WorldConfig, count: int) -> tuple[Tensor, list[AnyScene]]:
    """Clips of a seed that training never uses: uint8 [N, F, H, W, 3] and their scenes."""
    scenes = scenes_of(config, 0, count, config.held_out_seed)
    return render(scenes, num_frames=config.num_frames, size=config.size), scenes
