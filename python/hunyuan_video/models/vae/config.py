"""Configuration of the causal video VAE, and its translation from and to the `config.json` layouts in circulation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

_CLASS_NAMES = {"official": "AutoencoderKLCausal3D", "diffusers": "AutoencoderKLHunyuanVideo"}
_BLOCK_NAMES = {
    "official": ("DownEncoderBlockCausal3D", "UpDecoderBlockCausal3D"),
    "diffusers": ("HunyuanVideoDownBlock3D", "HunyuanVideoUpBlock3D"),
}
# Our field -> the names it has in config.json files, official first, diffusers second.
_FILE_KEYS = {
    "in_channels": ("in_channels", "in_channels"),
    "out_channels": ("out_channels", "out_channels"),
    "latent_channels": ("latent_channels", "latent_channels"),
    "block_out_channels": ("block_out_channels", "block_out_channels"),
    "layers_per_block": ("layers_per_block", "layers_per_block"),
    "norm_groups": ("norm_num_groups", "norm_num_groups"),
    "temporal_compression": ("time_compression_ratio", "temporal_compression_ratio"),
    "spatial_compression": ("spatial_compression_ratio", "spatial_compression_ratio"),
    "mid_attention": ("mid_block_add_attention", "mid_block_add_attention"),
    "scaling_factor": ("scaling_factor", "scaling_factor"),
    "tile_size": ("sample_size", "sample_size"),
    "tile_frames": ("sample_tsize", "sample_tsize"),
}


@dataclass(frozen=True)
class VAEConfig:
    """Shape of a `CausalVAE`; the defaults are the released "884-16c-hy" weights.

    in_channels, out_channels: channels of the video in and out. latent_channels: channels of the latent.
    block_out_channels: width of each resolution level, full resolution first. layers_per_block: ResNet blocks per
    encoder level (the decoder has one more). norm_groups: groups of every GroupNorm; divides each width.
    temporal_compression, spatial_compression: powers of two; F frames become (F - 1) / temporal_compression + 1.
    mid_attention: attention in the middle block. scaling_factor: model latents = VAE latents * scaling_factor.
    tile_size (pixels) and tile_frames (frames): tile of `mode="tiled"`.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 16
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_groups: int = 32
    temporal_compression: int = 4
    spatial_compression: int = 8
    mid_attention: bool = True
    scaling_factor: float = 0.476986
    tile_size: int = 256
    tile_frames: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_out_channels", tuple(self.block_out_channels))
        self._check_counts()
        self._check_compression()

    def _check_counts(self) -> None:
        names = ("in_channels", "out_channels", "latent_channels", "layers_per_block", "norm_groups")
        for name in names + ("temporal_compression", "spatial_compression", "tile_size", "tile_frames"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"VAEConfig.{name} must be a positive integer, got {value!r}")
        if not self.block_out_channels:
            raise ValueError("VAEConfig.block_out_channels is empty; give one width per resolution level")
        for width in self.block_out_channels:
            if not isinstance(width, int) or width < 1 or width % self.norm_groups:
                raise ValueError(
                    f"VAEConfig.block_out_channels has {width!r}, which norm_groups={self.norm_groups} does not divide"
                )
        if not isinstance(self.scaling_factor, int | float) or not self.scaling_factor > 0:
            raise ValueError(f"VAEConfig.scaling_factor must be a positive number, got {self.scaling_factor!r}")

    def _check_compression(self) -> None:
        steps = len(self.block_out_channels) - 1  # every level but the last may halve
        for name, tile in (("temporal_compression", "tile_frames"), ("spatial_compression", "tile_size")):
            value, tile_value = getattr(self, name), getattr(self, tile)
            if value & (value - 1) or value > 2**steps:
                raise ValueError(
                    f"VAEConfig.{name}={value} must be a power of two, at most {2**steps} with {steps + 1} levels"
                )
            if tile_value % value or tile_value < 2 * value:
                raise ValueError(
                    f"VAEConfig.{tile}={tile_value} must be a multiple of {name}={value} and at least {2 * value}"
                )

    def strides(self) -> tuple[tuple[int, int, int], ...]:
        """Stride (T, H, W) after each level, (1, 1, 1) where it keeps the size; the decoder upsamples by the same."""
        levels = len(self.block_out_channels)
        spatial = self.spatial_compression.bit_length() - 1
        first_temporal = levels - self.temporal_compression.bit_length()
        return tuple(
            (2 if first_temporal <= i < levels - 1 else 1, 2 if i < spatial else 1, 2 if i < spatial else 1)
            for i in range(levels)
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VAEConfig:
        """From a parsed `config.json`, official or diffusers; keys that are absent keep the released defaults.

        Keys that do not change the network are ignored. ValueError for another class, activation or a latent shift.
        """
        name = values.get("_class_name")
        if name is not None and name not in _CLASS_NAMES.values():
            raise ValueError(f"config is of class {name}, expected one of {', '.join(sorted(_CLASS_NAMES.values()))}")
        if values.get("act_fn", "silu") != "silu":
            raise ValueError(f"config has act_fn={values['act_fn']!r}; only 'silu' is supported")
        if values.get("shift_factor"):
            raise ValueError(f"config has shift_factor={values['shift_factor']!r}; latents of this VAE are not shifted")
        fields = {}
        for field, keys in _FILE_KEYS.items():
            file_key = next((key for key in keys if key in values), None)
            if file_key is not None:
                fields[field] = _tile(file_key, values[file_key]) if field.startswith("tile") else values[file_key]
        return cls(**fields)

    def to_dict(self, layout: Literal["official", "diffusers"] = "diffusers") -> dict[str, Any]:
        """Content of `config.json` in a layout; `from_dict` reads it back. diffusers has no keys for tile sizes."""
        if layout not in _CLASS_NAMES:
            raise ValueError(f"layout={layout!r} is unknown; use one of {', '.join(_CLASS_NAMES)}")
        down, up = _BLOCK_NAMES[layout]
        levels = len(self.block_out_channels)
        out: dict[str, Any] = {"_class_name": _CLASS_NAMES[layout], "act_fn": "silu"}
        for field, keys in _FILE_KEYS.items():
            if layout == "official" or not field.startswith("tile"):
                out[keys[layout == "diffusers"]] = getattr(self, field)
        out["block_out_channels"] = list(self.block_out_channels)
        return {**out, "down_block_types": [down] * levels, "up_block_types": [up] * levels}

    def replace(self, **changes: Any) -> VAEConfig:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def _tile(key: str, value: Any) -> Any:
    """A tile size; some files store it as a list, of which all entries must agree."""
    if isinstance(value, list | tuple):
        if len(set(value)) != 1:
            raise ValueError(f"config has {key}={list(value)!r}; tiles are square, give one number")
        return value[0]
    return value
