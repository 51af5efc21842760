"""How pixels become latents and tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """How pixels become latents and tokens, from the two models' configs."""

    latent_channels: int = 16
    temporal: int = 4  # frames per latent frame after the first
    spatial: int = 8  # pixels per latent row and column
    patch: int = 2  # latent rows and columns per token

    @property
    def multiple(self) -> int:
        """Height and width are multiples of this many pixels."""
        return self.spatial * self.patch

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T, h, w) of one video."""
        frames = (num_frames - 1) // self.temporal + 1
        return self.latent_channels, frames, height // self.spatial, width // self.spatial

    def tokens(self, num_frames: int, height: int, width: int) -> int:
        return ((num_frames - 1) // self.temporal + 1) * (height // self.multiple) * (width // self.multiple)
