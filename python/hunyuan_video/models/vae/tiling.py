"""Overlapping tiles and their blending, as released (mode="tiled" of the VAE; paper section 4.1.2).

A tile is `size` latents wide and high and `frames` + 1 latents long; neighbors overlap by a quarter, and the overlap
is a linear blend. Everything is counted in latents and scaled to pixels by the units, so that lengths come out right
for any tile size: where 3/4 of a tile is not a whole number, the stride is rounded down and the overlap takes the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hunyuan_video.models.interruption import interruption_point
from hunyuan_video.phases import tell

OVERLAP = 0.25  # of a tile


def tile_stride(size: int) -> int:
    """Distance in latents between the starts of neighboring tiles of `size` >= 2 latents."""
    return int(size * (1 - OVERLAP))


@dataclass(frozen=True)
class Tiling:
    """Tile sizes in latents, and the extent of a latent in the input and in the output.

    in_unit, out_unit: (frames, pixels) per latent: (1, 1) on the latent side, (4, 8) on the video side.
    """

    frames: int
    size: int
    in_unit: tuple[int, int]
    out_unit: tuple[int, int]

    def run(
        self,
        x: Tensor,  # [B, C, T, H, W]
        function: Callable[[Tensor], Tensor],  # [B, C, t, h, w] -> [B, C', t', h', w'], t' = (t - 1) * ratio + 1
    ) -> Tensor:  # [B, C', T', H', W']
        """`function` over tiles of x, blended; over the whole x where it fits one tile."""
        latents = (x.shape[2] - 1) // self.in_unit[0] + 1
        if latents <= self.frames:
            return self._run_frames(x, function)
        step, per_latent = self.in_unit[0], self.out_unit[0]
        phase = "decoding" if self.out_unit > self.in_unit else "encoding"
        stride = tile_stride(self.frames)
        overlap = (self.frames - stride) * per_latent
        total = (latents - 1) * per_latent + 1
        out: Tensor | None = None
        tail: Tensor | None = None
        for start in range(0, latents - 1, stride):
            tell(phase, start, latents - 1)
            tile = self._run_frames(x[:, :, start * step : (start + self.frames) * step + 1], function)
            if tail is not None:
                tile = blend(tail, tile[:, :, 1:], overlap, dim=2)  # frame 0 of a tile has no past: dropped
            tail = tile[:, :, -overlap:].clone()
            first = start * per_latent + (1 if start else 0)
            out = tile.new_empty(*tile.shape[:2], total, *tile.shape[3:]) if out is None else out
            kept = tile[:, :, : stride * per_latent + (0 if start else 1)]
            out[:, :, first : first + kept.shape[2]] = kept
        assert out is not None  # there is at least one tile
        tell(phase, latents - 1, latents - 1)
        return out

    def patches(self, x: Tensor) -> Iterator[Tensor]:  # x: [B, C, T, H, W] -> [B, C, t, h, w] each
        """The parts of x that `run` calls its function with, in that order."""
        latents, step = (x.shape[2] - 1) // self.in_unit[0] + 1, self.in_unit[0]
        starts = range(0, latents - 1, tile_stride(self.frames)) if latents > self.frames else range(1)
        for start in starts:
            frames = x[:, :, start * step : (start + self.frames) * step + 1] if latents > self.frames else x
            rows, cols = (size // self.in_unit[1] for size in x.shape[3:])
            if rows <= self.size and cols <= self.size:
                yield frames
                continue
            stride = tile_stride(self.size)
            for top, left in itertools.product(range(0, rows, stride), range(0, cols, stride)):
                yield self._patch(frames, top, left)

    def _patch(self, x: Tensor, top: int, left: int) -> Tensor:
        step = self.in_unit[1]
        return x[:, :, :, top * step : (top + self.size) * step, left * step : (left + self.size) * step]

    def _run_frames(self, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """The spatial tiles of one temporal tile; vertical blend first, then horizontal, both with blended tiles."""
        step, per_latent = self.in_unit[1], self.out_unit[1]
        rows, cols = x.shape[3] // step, x.shape[4] // step
        interruption_point()
        if rows <= self.size and cols <= self.size:
            return function(x)
        stride = tile_stride(self.size)
        overlap, keep = (self.size - stride) * per_latent, stride * per_latent
        out: Tensor | None = None
        above: dict[int, Tensor] = {}
        for top in range(0, rows, stride):
            left: Tensor | None = None
            for start in range(0, cols, stride):
                interruption_point()
                tile = function(self._patch(x, top, start))
                if top:
                    tile = blend(above[start], tile, overlap, dim=3)
                if left is not None:
                    tile = blend(left, tile, overlap, dim=4)
                above[start], left = tile[:, :, :, -overlap:].clone(), tile[..., -overlap:]
                if out is None:
                    out = tile.new_empty(*tile.shape[:3], rows * per_latent, cols * per_latent)
                kept = tile[:, :, :, :keep, :keep]
                y, z = top * per_latent, start * per_latent
                out[:, :, :, y : y + kept.shape[3], z : z + kept.shape[4]] = kept
        assert out is not None  # there is at least one tile
        return out


def blend(
    before: Tensor,  # [B, C, T, H, W], its end along dim overlaps the start of `after`
    after: Tensor,  # [B, C, T', H', W']
    extent: int,  # overlap along dim; less where a tensor is shorter
    dim: int,
) -> Tensor:  # shape of `after`
    """after, with its first k of `extent` entries mixed as before * (1 - k / extent) + after * k / extent."""
    extent = min(before.shape[dim], after.shape[dim], extent)
    shape = [1] * after.ndim
    shape[dim] = extent
    ramp = torch.arange(extent, device=after.device, dtype=torch.promote_types(after.dtype, torch.float32))
    ramp = ramp.div_(extent).view(shape)
    old = before.narrow(dim, before.shape[dim] - extent, extent)
    new = after.narrow(dim, 0, extent)
    rest = after.narrow(dim, extent, after.shape[dim] - extent)
    return torch.cat(((old * (1 - ramp) + new * ramp).to(after.dtype), rest), dim=dim)
