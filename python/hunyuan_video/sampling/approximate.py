"""Other ways through a run than the exact one: steps that a cache leaves out, attention within windows, own positions.

They are layers around the blocks of a transformer that only this run sees; the loaded one is not changed.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hunyuan_video.errors import ArgumentError, IneffectiveArgument, UserError, notify
from hunyuan_video.models.transformer.positions import OwnPositions
from hunyuan_video.models.transformer.rope import longest_unrepeated, rope_table
from hunyuan_video.models.transformer.sliding_tiles import Grid3, SlidingTiles, choose_tile, window_of
from hunyuan_video.models.transformer.step_cache import StepCache
from hunyuan_video.rules import method_of

if TYPE_CHECKING:
    from hunyuan_video.sampling.models import LoadedModels
    from hunyuan_video.sampling.request import Settings

WARM = 0.1  # of the steps, the first ones, and the last step: never skipped, for they decide on motion and detail
MODES = ("cache", "attention", "riflex")
GPU_TILE = 128  # tokens: tiles of the GPU kernels are multiples


def approximate_line(settings: Settings) -> str | None:
    """One line about what is not exact in a run, None for an exact one."""
    modes = [f"{name} {value}" for name in MODES if (value := getattr(settings, name)) is not None]
    if not modes:
        return None
    return f"{' and '.join(modes)}: an approximation, its video differs from the exact run's of the same seed"


def check_approximate(models: LoadedModels, settings: Settings) -> None:
    """ArgumentError where a model, or a size, cannot do what the settings ask for."""
    transformer = models.transformer
    asked = next((name for name in MODES if getattr(settings, name) is not None), "")
    frequencies = transformer.config.rope_dims[0] // 2
    if settings.riflex is not None and settings.riflex > frequencies:
        raise ArgumentError(f"riflex: this model has {frequencies} frequencies in time, got {settings.riflex}")
    if approximate_line(settings) and not hasattr(transformer, "executor"):
        raise ArgumentError(
            f"{asked} works on the blocks of this package's transformer, and this model is a "
            f"{type(transformer).__name__}; leave {asked} out"
        )
    if settings.riflex is not None:
        longest = longest_unrepeated(2 * frequencies, transformer.config.rope_theta, settings.riflex)
        if models.grid.latent_frames(settings.num_frames) <= longest:
            frames = (longest - 1) * models.grid.temporal + 1
            line = f"riflex {settings.riflex} has no effect up to {frames} frames, which its frequency tells apart"
            notify(line, IneffectiveArgument)
    if settings.attention is None:
        return
    latent = models.grid.latent_shape(settings.num_frames, settings.height, settings.width)[1:]
    (t, y, x), tile = tiling(transformer, latent)
    if tile is None:
        raise ArgumentError(
            f"attention: {t} x {y} x {x} tokens do not divide into tiles of {GPU_TILE} tokens or a multiple, as the "
            f"GPU's kernel needs; {_nearest((t, y, x), models)}"
        )


def check_ranks(models: LoadedModels, settings: Settings) -> None:
    """ArgumentError for what a run, also a resumed one, cannot do on several ranks."""
    name = "cache" if settings.cache is not None else "attention"
    if models.team is not None and getattr(settings, name) is not None:
        raise ArgumentError(f"{name}: not on several ranks; leave it out, or start one process")


class Approximation:
    """The transformer of one run with the layers that its settings, which passed `check_approximate`, ask for.

    transformer: as it came where the run is exact.
    """

    def __init__(self, transformer: Any, settings: Settings, latent: Grid3):  # T, h, w of the latents
        self.settings, self.transformer = settings, transformer
        self.cache: StepCache | None = None
        self.tiles: SlidingTiles | None = None
        layers: list[Any] = []
        self._layers = layers
        if settings.cache is not None:
            kind, threshold = method_of(settings.cache)
            self.cache = StepCache(threshold, linear=kind == "linear")
            layers.append(self.cache)
        if settings.attention is not None:
            grid, tile = tiling(transformer, latent)
            assert tile is not None
            self.tiles = SlidingTiles(grid, tile, window_of(grid, tile))
            layers.append(self.tiles)
        if settings.riflex is not None:
            config = transformer.config
            t, y, x = (size // patch for size, patch in zip(latent, config.patch_size, strict=True))
            table = rope_table((t, y, x), dims=config.rope_dims, theta=config.rope_theta, lowered=settings.riflex)
            layers.append(OwnPositions(table))
        if not layers:
            return
        self._loaded = transformer
        self.transformer = copy.copy(transformer)  # the same weights
        self._renew()

    def _renew(self) -> None:
        """Puts the run's layers beside those that the loaded transformer has now."""
        self._beside = executor = self._loaded.executor
        for layer in self._layers:
            executor = executor.adding(layer)
        self.transformer.executor = executor

    def begin(self, step: int, batch: int, level: float) -> None:
        """An evaluation comes: number of the step and of the batch of videos, noise level 0..1."""
        steps = self.settings.steps
        if self._layers and self._beside is not self._loaded.executor:
            self._renew()
        if self.cache is not None:
            self.cache.begin(batch, level, free=max(1, math.ceil(WARM * steps)) <= step < steps - 1)
        if self.tiles is not None:
            assert self.settings.attention is not None
            self.tiles.dense = step < math.ceil(method_of(self.settings.attention)[1] * steps)

    def state(self) -> dict[str, Tensor]:
        """Tensors that a resumed run needs; none without a cache."""
        return {} if self.cache is None else self.cache.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Goes on where `state` was taken; UserError for a damaged one."""
        try:
            if self.cache is not None:
                self.cache.load_state(state)
        except ValueError as error:
            raise UserError(f"the sampling state is damaged ({error}); start the run without resuming") from None

    def verdict(self) -> str | None:
        """One line where a cache had no effect, or left out all that it could."""
        if self.cache is None:
            return None
        reused, free, least = self.cache.reused, self.cache.reused + self.cache.computed, self.cache.least
        name, steps = f"cache {self.settings.cache}", self.settings.steps
        if not free:
            return (
                f"{name} had no effect: of {steps} steps none may be skipped (the first tenth and the last never are)"
            )
        if not reused:
            return f"{name} never hit: the least change was {least:.3g}; use a threshold above it, or leave cache out"
        if reused == free:
            return f"{name} always hit, {free} times of {free}; lower the threshold, or make fewer steps without it"
        return None


def tiling(transformer: Any, latent: Grid3) -> tuple[Grid3, Grid3 | None]:
    """Tokens (t, y, x) of latents T, h, w, and of a tile of them, None where none fits."""
    config, device = transformer.config, next(transformer.parameters()).device.type
    t, y, x = (size // patch for size, patch in zip(latent, config.patch_size, strict=True))
    return (t, y, x), choose_tile((t, y, x), _multiple(device), config.image_condition)


def _multiple(device: str) -> int:
    return GPU_TILE if device == "cuda" else 1


def _nearest(grid: Grid3, models: LoadedModels) -> str:
    """The closest size that has tiles, for a message."""
    apart, unit = models.transformer.config.image_condition, models.grid
    t, y, x = (range(max(1, size - 6), size + 7) for size in grid)
    sizes = [size for size in itertools.product(t, y, x) if choose_tile(size, GPU_TILE, apart)]
    if not sizes:
        return "use dense"
    near = min(sizes, key=lambda size: sum(abs(math.log(a / b)) for a, b in zip(size, grid, strict=True)))
    frames, height, width = (near[0] - 1) * unit.temporal + 1, near[1] * unit.multiple, near[2] * unit.multiple
    return f"nearest: {frames} frames of {height}x{width}, or use dense"
