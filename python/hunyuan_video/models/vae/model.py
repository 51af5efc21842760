"""Causal 3D VAE "884-16c": 4x in time, 8x in height and width, 16 latent channels (paper section 4.1)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from hunyuan_video.models.pretrained import Pretrained
from hunyuan_video.models.vae.blocks import CONV_PAD, CausalConv3d, DownBlock, GroupNorm, MidBlock, UpBlock
from hunyuan_video.models.vae.config import VAEConfig
from hunyuan_video.models.vae.exact import decode_exact, decode_streamed, encode_exact, encode_streamed, streams
from hunyuan_video.models.vae.tiling import Tiling

Mode = Literal["plain", "tiled", "exact"]
MODES = ("plain", "tiled", "exact")
STREAM_LATENTS = 64  # frames x rows x columns of latents from which plain mode may run slab by slab


def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:  # any shape, alike
    """Divergence of a normal distribution from the standard one, element by element."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


class Posterior:
    """Diagonal Gaussian over latents.

    mean, logvar: [B, latent_channels, T, h, w]; logvar is clamped to [-30, 20].
    """

    def __init__(self, moments: Tensor):  # [B, 2 * latent_channels, T, h, w]: mean | log variance
        self.mean, logvar = moments.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)

    def mode(self) -> Tensor:  # [B, latent_channels, T, h, w]
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:  # [B, latent_channels, T, h, w]
        """mean + std * noise; the noise is drawn in float32 on the generator's device."""
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=torch.float32)
        return self.mean + torch.exp(0.5 * self.logvar) * noise.to(self.mean)

    def kl(self) -> Tensor:  # [B, latent_channels, T, h, w], float32
        """Kullback-Leibler divergence from the standard normal, per latent element, in nats."""
        mean, logvar = self.mean.float(), self.logvar.float()
        return gaussian_kl(mean, logvar)


class Encoder(nn.Module):
    """[B, in_channels, F, H, W] -> [B, 2 * latent_channels, T, h, w], before quant_conv."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_groups
        self.conv_in = CausalConv3d(config.in_channels, widths[0])
        self.down_blocks = nn.ModuleList(
            DownBlock(before, width, config.layers_per_block, groups, stride)
            for (before, width), stride in zip(pairwise((widths[0], *widths)), config.strides(), strict=True)
        )
        self.mid_block = MidBlock(widths[-1], groups, config.mid_attention)
        self.conv_norm_out = GroupNorm(groups, widths[-1])
        self.conv_out = CausalConv3d(widths[-1], 2 * config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        x = self.conv_norm_out(self.mid_block(x), silu=True, pad=CONV_PAD)
        return self.conv_out(x, padded=True)


class Decoder(nn.Module):
    """[B, latent_channels, T, h, w], after post_quant_conv, -> [B, out_channels, F, H, W]."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        widths, groups = tuple(reversed(config.block_out_channels)), config.norm_groups
        self.conv_in = CausalConv3d(config.latent_channels, widths[0])
        self.mid_block = MidBlock(widths[0], groups, config.mid_attention)
        self.up_blocks = nn.ModuleList(
            UpBlock(before, width, config.layers_per_block + 1, groups, stride)
            for (before, width), stride in zip(pairwise((widths[0], *widths)), config.strides(), strict=True)
        )
        self.conv_norm_out = GroupNorm(groups, widths[-1])
        self.conv_out = CausalConv3d(widths[-1], config.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(self.conv_norm_out(x, silu=True, pad=CONV_PAD), padded=True)


def encode_pass(encoder: nn.Module, video: Tensor, config: VAEConfig) -> Tensor:
    """encoder(video), slab by slab where that is fastest: [B, C, F, H, W] -> [B, 2 * latent_channels, T, h, w]."""
    pixels = STREAM_LATENTS * config.temporal_compression * config.spatial_compression**2
    return encode_streamed(encoder, video) if streams(encoder, video, pixels) else encoder(video)


def decode_pass(decoder: nn.Module, latents: Tensor) -> Tensor:
    """decoder(latents), slab by slab where that is fastest: [B, latent_channels, T, h, w] -> [B, C, F, H, W]."""
    return decode_streamed(decoder, latents) if streams(decoder, latents, STREAM_LATENTS) else decoder(latents)


class CausalVAE(Pretrained):
    """Video autoencoder. F = temporal_compression * k + 1 frames of H x W pixels become k + 1 frames of latents.

    Latents of `encode` and `decode` are the VAE's own; the transformer works on latents * config.scaling_factor.
    """

    component = "vae"

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv3d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv3d(config.latent_channels, config.latent_channels, 1)

    def encode(
        self,
        video: Tensor,  # [B, in_channels, F, H, W] in [-1, 1]
        mode: Mode = "plain",
        memory_budget: int | None = None,
    ) -> Posterior:
        """The posterior of a video, with latents [B, latent_channels, (F - 1) / 4 + 1, H / 8, W / 8].

        mode: see `decode`. ValueError unless F - 1 and H, W are multiples of the compression (4 and 8).
        """
        self._check_input("video", video, self.config.in_channels)
        frames, height, width = video.shape[2:]
        time, space = self.config.temporal_compression, self.config.spatial_compression
        if frames % time != 1 % time or height % space or width % space:
            raise ValueError(
                f"video has {frames} frames of {height}x{width} pixels; the frames must be {time}k + 1 and both sides "
                f"multiples of {space}, e.g. {frames - (frames - 1) % time} frames of "
                f"{max(height // space, 1) * space}x{max(width // space, 1) * space}"
            )
        _check_mode(mode, memory_budget, video)
        if mode == "exact":
            with torch.no_grad():
                return Posterior(self.quant_conv(encode_exact(self.encoder, video, memory_budget)))
        if mode == "tiled":
            return Posterior(self._tiling((time, space), (1, 1)).run(video, self._encode_moments))
        return Posterior(self._encode_moments(video))

    def decode(
        self,
        latents: Tensor,  # [B, latent_channels, T, h, w], not scaled by scaling_factor
        mode: Mode = "plain",
        memory_budget: int | None = None,
    ) -> Tensor:  # [B, out_channels, 4 * (T - 1) + 1, 8 * h, 8 * w], about [-1, 1], not clamped
        """The video of latents.

        mode: "plain" is one pass; "tiled" cuts into overlapping tiles of config.tile_size pixels and config.tile_frames
        frames and blends them (official behavior: bounded memory, differs from plain); "exact" equals plain up to
        rounding within memory_budget bytes besides weights, input and result (None: 4 GiB), at about plain's speed,
        without gradients. ValueError if the budget is too small for the size, saying what is needed.
        """
        self._check_input("latents", latents, self.config.latent_channels)
        _check_mode(mode, memory_budget, latents)
        if mode == "exact":
            with torch.no_grad():
                return decode_exact(self.decoder, self.post_quant_conv(latents), memory_budget)
        if mode == "tiled":
            return self.decode_tiling().run(latents, self._decode_latents)
        return self._decode_latents(latents)

    def decode_tiling(self) -> Tiling:
        """The tiles of mode="tiled"."""
        return self._tiling((1, 1), (self.config.temporal_compression, self.config.spatial_compression))

    def _tiling(self, in_unit: tuple[int, int], out_unit: tuple[int, int]) -> Tiling:
        config = self.config
        frames, size = config.tile_frames // config.temporal_compression, config.tile_size // config.spatial_compression
        return Tiling(frames, size, in_unit, out_unit)

    def _encode_moments(self, video: Tensor) -> Tensor:  # [B, 3, F, H, W] -> [B, 2 * latent_channels, T, h, w]
        return self.quant_conv(encode_pass(self.encoder, video, self.config))

    def _decode_latents(self, latents: Tensor) -> Tensor:  # [B, latent_channels, T, h, w] -> [B, 3, F, H, W]
        return decode_pass(self.decoder, self.post_quant_conv(latents))

    def _check_input(self, name: str, x: Tensor, channels: int) -> None:
        if x.ndim != 5 or x.shape[1] != channels or 0 in x.shape:
            raise ValueError(f"{name} must be [B, {channels}, frames, height, width], got shape {list(x.shape)}")
        dtype = self.quant_conv.weight.dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"{name} is {x.dtype} but the weights are {dtype}; convert it with .to({dtype})")


def _check_mode(mode: str, memory_budget: int | None, x: Tensor) -> None:
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is unknown; use one of {', '.join(MODES)}")
    if mode == "exact" and x.requires_grad and torch.is_grad_enabled():
        raise ValueError("mode='exact' computes no gradients but its input requires them; use mode='plain'")
    if memory_budget is None:
        return
    if mode != "exact":
        raise ValueError(f"memory_budget applies to mode='exact' only, got mode={mode!r}; leave it None")
    if not isinstance(memory_budget, int) or isinstance(memory_budget, bool) or memory_budget < 1:
        raise ValueError(f"memory_budget must be a positive number of bytes, got {memory_budget!r}")
