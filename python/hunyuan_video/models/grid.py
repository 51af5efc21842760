"""Sizes in pixels, latents and tokens: only this file divides by a VAE's compression or a transformer's patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hunyuan_video.models.transformer.config import TransformerConfig
    from hunyuan_video.models.vae.config import VAEConfig


@dataclass(frozen=True)
class Grid:
    """Sizes in pixels, latents and tokens, from the two models' configs; the defaults are the released model's."""

    latent_channels: int = 16
    temporal: int = 4  # frames per latent frame after the first
    spatial: int = 8  # pixels per latent row and column
    patch: int = 2  # latent rows and columns per token

    @classmethod
    def of(cls, vae: VAEConfig | None = None, transformer: TransformerConfig | None = None) -> Grid:
        """Grid of two models; a missing one counts as the released one."""
        sizes: dict[str, int] = {}
        if vae is not None:
            sizes = {"temporal": vae.temporal_compression, "spatial": vae.spatial_compression}
            sizes["latent_channels"] = vae.latent_channels
        if transformer is not None:
            sizes |= {"latent_channels": transformer.in_channels, "patch": max(transformer.patch_size[1:])}
        return cls(**sizes)

    @property
    def multiple(self) -> int:
        """Height and width are multiples of this many pixels."""
        return self.spatial * self.patch

    def fits(self, num_frames: int, height: int, width: int) -> bool:
        """True where the VAE and the patches divide a video evenly."""
        sides = min(height, width) > 0 and height % self.multiple == width % self.multiple == 0
        return sides and num_frames > 0 and (num_frames - 1) % self.temporal == 0

    def covering(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """The smallest video that `fits` and holds one of this size."""
        frames = self.temporal * -(-(num_frames - 1) // self.temporal) + 1
        return frames, self.multiple * -(-height // self.multiple), self.multiple * -(-width // self.multiple)

    @property
    def rule(self) -> str:
        """Condition of `fits`, in words."""
        return f"frames must be {self.temporal}k + 1, height and width multiples of {self.multiple}"

    def latent_frames(self, num_frames: int) -> int:
        return (num_frames - 1) // self.temporal + 1

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T, h, w) of one video."""
        return self.latent_channels, self.latent_frames(num_frames), height // self.spatial, width // self.spatial

    def tokens(self, num_frames: int, height: int, width: int) -> int:
        """Video tokens of one video."""
        return self.latent_frames(num_frames) * (height // self.multiple) * (width // self.multiple)
