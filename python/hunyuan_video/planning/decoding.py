"""Memory of the VAE's decoder: exact and streamed runs by walking its layers, plain and tiled ones by a rehearsal."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hunyuan_ext.core.rehearsal import Machine
from hunyuan_video.media.pixels import to_display
from hunyuan_video.models import CausalVAE, VAEConfig
from hunyuan_video.models.pretrained import SkipInit
from hunyuan_video.models.vae.exact import DEFAULT_BUDGET, Planner, walk_decoder
from hunyuan_video.models.vae.model import STREAM_LATENTS
from hunyuan_video.models.vae.slabs import ConvPlan
from hunyuan_video.models.vae.store import Shape, store_bytes
from hunyuan_video.models.vae.streaming import SLAB_BYTES, UNLIMITED
from hunyuan_video.models.vae.tiling import tile_stride
from hunyuan_video.planning.live import counted, tensor_bytes

Latent = tuple[int, int, int, int]  # C, T, h, w of one video
MARGIN = 1 << 26  # of a limit, left free beside exact mode's budget
BANDS = 3  # of what a band of rows may cost by `ConvPlan.cost`, an upper estimate, one part was seen in use


def empty_vae(config: VAEConfig, dtype: torch.dtype) -> CausalVAE:
    with torch.device("meta"), SkipInit():
        return CausalVAE(config).to(dtype).eval().requires_grad_(False)


@lru_cache(maxsize=8)
def vae_bytes(config: VAEConfig, dtype: torch.dtype) -> int:
    return tensor_bytes(empty_vae(config, dtype))


def automatic_mode(config: VAEConfig, latent: Latent, device: str) -> str:
    """Mode that "auto" stands for, as `sampling.decode` chooses it."""
    frames, size = config.tile_frames // config.temporal_compression, config.tile_size // config.spatial_compression
    if latent[1] <= frames and max(latent[2:]) <= size:
        return "plain"
    return "exact" if device == "cpu" else "tiled"


def pixels_of(config: VAEConfig, latent: Latent) -> int:
    """Pixels of all frames of a video."""
    _, frames, rows, columns = latent
    return ((frames - 1) * config.temporal_compression + 1) * rows * columns * config.spatial_compression**2


@lru_cache(maxsize=64)
def decode_bytes(
    config: VAEConfig, latent: Latent, mode: str, dtype: torch.dtype, machine: Machine, budget: int | None
) -> int | None:
    """The most bytes beside the weights while one video is decoded; None where exact mode cannot do with its budget."""
    vae = empty_vae(config, dtype)
    if mode == "exact":
        return _walked(vae, latent, dtype, DEFAULT_BUDGET if budget is None else budget)
    streamed = machine.device == "cpu" and math.prod(latent[1:]) >= STREAM_LATENTS
    if mode == "plain" and streamed:
        return _walked(vae, latent, dtype, None)
    channels, frames, rows, columns = latent
    tile = config.tile_frames // config.temporal_compression
    some = min(frames, tile + tile_stride(tile) + 1) if mode == "tiled" else frames  # two tiles tell all but the result
    with counted(machine, vae) as live:
        if mode == "tiled":
            vae._decode_latents = _Once(vae, live, streamed)
        vae.decode(torch.empty(1, channels, some, rows, columns, dtype=dtype), mode=mode)
    left_out = pixels_of(config, latent) - pixels_of(config, (channels, some, rows, columns))
    return live.most + config.out_channels * left_out * dtype.itemsize


class _Once:
    """The decoder for tiles: each shape once for its peak, then its result alone."""

    def __init__(self, vae: CausalVAE, live: Any, streamed: bool):
        self.vae, self.live, self.streamed = vae, live, streamed
        self.decode = vae._decode_latents
        self.extra: dict[tuple[int, ...], int] = {}

    def __call__(self, latents: Tensor) -> Tensor:
        shape = tuple(latents.shape)
        time, space = self.vae.config.temporal_compression, self.vae.config.spatial_compression
        frames = (shape[2] - 1) * time + 1
        out = (1, self.vae.config.out_channels, frames, shape[3] * space, shape[4] * space)
        if shape not in self.extra:
            if self.streamed:
                self.extra[shape] = _walked(self.vae, shape[1:], latents.dtype, None) or 0  # type: ignore[arg-type]
            else:
                before, most = self.live.now, self.live.most
                self.live.most = before
                self.decode(latents)
                self.extra[shape] = self.live.most - before
                self.live.most = max(most, self.live.most)
        self.live.spike(self.extra[shape])
        return torch.empty(out, dtype=latents.dtype)


def _walked(vae: CausalVAE, latent: Latent, dtype: torch.dtype, budget: int | None) -> int | None:
    """Input, result and stores of the decoder's layers run one after the other; budget None: all stay in memory."""
    channels, *places = latent
    start: Shape = (places[0], places[1], places[2], channels)
    planner = Planner(dtype)
    out = walk_decoder(planner, vae.decoder, start)
    limit = room = UNLIMITED
    if budget is not None:
        if planner.least > budget:
            return None
        limit, room = planner.shares(budget)
    meter = StoreMeter(dtype, limit, room)
    walk_decoder(meter, vae.decoder, _Held(meter, start, 0), target=_Held(meter, out, 0))
    meter.spare.clear()
    held = 2 * store_bytes(start, dtype) + store_bytes(out, dtype)
    return held + (meter.most if budget is None else min(meter.most, budget))


class _Held:
    """An activation of the walk; its memory goes to the meter's spare when nothing holds it."""

    def __init__(self, meter: StoreMeter, shape: Shape, size: int):
        self.meter, self.shape, self.size = meter, shape, size

    def __del__(self) -> None:
        if self.size:
            self.meter.room += self.size
            self.meter.spare.append(self.size)


class StoreMeter:
    """Walks the decoder as `streaming.Runner` does, on shapes: which stores are alive, and what a layer works in."""

    def __init__(self, dtype: torch.dtype, limit: int, room: int):
        self.dtype, self.limit, self.room = dtype, limit, room
        self.spare: list[int] = []
        self.stores = self.window = self.folded = self.most = 0

    def conv(
        self, source: _Held, conv: Any, norm: Any = None, residual: _Held | None = None, shortcut: Any = None,
        target: Any = None,
    ) -> _Held:  # fmt: skip
        plan = ConvPlan.of(conv, source.shape, (1, 1, 1), self.dtype)
        out = target if target is not None else self._new(plan.out_shape)
        self._work(plan, plan.frames(SLAB_BYTES, self.limit), conv.conv.weight.numel())
        return out

    def upsample(self, source: _Held, up: Any) -> _Held:
        plan = ConvPlan.of(up.conv, source.shape, up.stride, self.dtype)
        out = self._new(plan.out_shape)
        parities = math.prod(up.stride)
        taps = math.prod(2 if stride == 2 else 3 for stride in up.stride)
        weights = parities * plan.in_channels * plan.out_channels * taps
        self.folded += weights * self.dtype.itemsize
        self._work(plan, plan.frames(SLAB_BYTES, self.limit, folded=True), weights, parities=parities)
        return out

    def resnet(self, source: _Held, block: Any) -> _Held:
        hidden = self.conv(source, block.conv1)
        target = source if block.conv_shortcut is None else None
        return self.conv(hidden, block.conv2, target=target)

    def attention(self, source: _Held, attention: Any) -> _Held:
        frame = store_bytes((1, *source.shape[1:]), self.dtype)
        self._peak(2 * source.shape[0] * frame + 8 * frame)
        return source

    def _new(self, shape: Shape) -> _Held:
        size = store_bytes(shape, self.dtype)
        if size > self.room:  # to a file
            self._drop()
            return _Held(self, shape, 0)
        self.room -= size
        if size in self.spare:
            self.spare.remove(size)
        else:
            self._drop()
            self.stores += size
        return _Held(self, shape, size)

    def _drop(self) -> None:
        self.stores -= sum(self.spare)
        self.spare.clear()

    def _work(self, plan: ConvPlan, frames: int, weights: int, parities: int = 1) -> None:
        item = self.dtype.itemsize
        if frames == 0:
            whole = plan.cost(plan.axes[0].out, plan.axes[1].out)
            self._peak(min(self.limit, whole) // BANDS)
            return
        time, height, width = plan.axes
        reads = (frames - 1) * time.stride + time.kernel
        window = reads * (height.size + 2) * (width.size + 2) * plan.in_channels * item
        self.window = max(self.window, window)
        made = frames * parities * plan.out_channels * item
        made *= height.size * width.size if parities > 1 else height.out * width.out
        self._peak(2 * made + weights * item)

    def _peak(self, work: int) -> None:
        self.most = max(self.most, self.stores + self.window + self.folded + work)


def decode_choice(
    config: VAEConfig, latent: Latent, wanted: str, dtype: torch.dtype, machine: Machine, room: int | None
) -> tuple[str, int | None, int | None]:
    """(mode, budget of exact mode, bytes in use beside the weights) for a decode in `room` bytes, None: any number.

    "auto" becomes exact, equal to plain up to rounding, where what it stands for does not fit. Bytes are None where
    not even exact mode does.
    """
    mode = automatic_mode(config, latent, machine.device) if wanted == "auto" else wanted
    if mode != "exact":
        live = decode_bytes(config, latent, mode, dtype, machine, None)
        if wanted != "auto" or room is None or live is None or live <= room:
            return mode, None, live
    outside = config.out_channels * pixels_of(config, latent) * dtype.itemsize + MARGIN
    budget = max(DEFAULT_BUDGET if room is None else min(DEFAULT_BUDGET, room - outside), 1)
    return "exact", budget, decode_bytes(config, latent, "exact", dtype, machine, budget)


@lru_cache(maxsize=8)
def frames_bytes(pixels: int) -> int:
    """Host bytes from a decoded video of so many pixels to its frames as bytes, beside the decoded video itself."""
    with counted(Machine()) as live:
        video = torch.empty(1, 3, pixels)
        live.most = live.now
        shown = torch.cat([to_display(video)])
        del video
        to_rgb(shown)
    return live.most


def to_rgb(video: Tensor) -> Tensor:
    """A video as bytes, as `sampling.decode` makes them, without the look at its values."""
    check = video.isfinite()
    del check
    return (video * 255).round_().to(torch.uint8).contiguous()
