"""Geometry of one convolution done slab by slab: which source frames and rows a slab of the output reads.

Nearest upsampling and replicate padding are one lookup here: each position the convolution reads, padding included,
maps to a source index, so neither the upsampled nor the padded activation ever exists as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hunyuan_video.models.vae.blocks import CausalConv3d
from hunyuan_video.models.vae.store import Shape

Slab = tuple[int, int, int, int]  # output frames [t0, t1), rows [h0, h1)


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution: source size, nearest upsampling before it, kernel, stride.

    time: all padding in front, and the first source entry is not repeated; else padding on both sides.
    """

    size: int
    upsample: int
    kernel: int
    stride: int
    time: bool = False

    @property
    def upsampled(self) -> int:
        return 1 + self.upsample * (self.size - 1) if self.time else self.upsample * self.size

    @property
    def out(self) -> int:
        return (self.upsampled - 1) // self.stride + 1

    def source(self, start: int, stop: int) -> tuple[int, int]:
        """Source range [low, high) that outputs [start, stop) read."""
        first, last = self._first(start), self._first(stop - 1) + self.kernel - 1
        low, high = (min(max(p, 0), self.upsampled - 1) for p in (first, last))
        return self._lookup(low), self._lookup(high) + 1

    def gather(self, start: int, stop: int, device: torch.device) -> Tensor:  # [positions read], int64
        """For outputs [start, stop): the source index, relative to `source`, of every position the kernel reads."""
        first, last = self._first(start), self._first(stop - 1) + self.kernel - 1
        positions = torch.arange(first, last + 1, device=device).clamp_(0, self.upsampled - 1)
        return self._lookup(positions) - self.source(start, stop)[0]

    def padding(self) -> tuple[int, int]:
        """Positions that the kernel reads before and after the whole (upsampled) axis."""
        return -self._first(0), self._first(self.out - 1) + self.kernel - self.upsampled

    def _first(self, output: int) -> int:
        front = self.kernel - 1 if self.time else self.kernel // 2
        return output * self.stride - front

    def _lookup(self, position):
        return (position + self.upsample - 1) // self.upsample if self.time else position // self.upsample


@dataclass(frozen=True)
class ConvPlan:
    """A causal convolution, optionally after nearest upsampling, over a source of `shape`."""

    axes: tuple[Axis, Axis, Axis]
    in_channels: int
    out_channels: int
    item: int  # bytes per element of activations and weights

    @classmethod
    def of(cls, conv: CausalConv3d, shape: Shape, upsample: tuple[int, int, int], dtype: torch.dtype) -> ConvPlan:
        time, height, width = (
            Axis(shape[i], upsample[i], conv.conv.kernel_size[i], conv.stride[i], time=i == 0) for i in range(3)
        )
        return cls((time, height, width), conv.conv.in_channels, conv.conv.out_channels, dtype.itemsize)

    @property
    def out_shape(self) -> Shape:
        return self.axes[0].out, self.axes[1].out, self.axes[2].out, self.out_channels

    @property
    def work(self) -> int:
        """Multiplications."""
        return math.prod((*self.out_shape, self.in_channels, *(axis.kernel for axis in self.axes)))

    def cost(self, frames: int, rows: int) -> int:
        """Upper estimate of the bytes in use while a slab of `frames` x `rows` outputs is computed.

        The normalized source in float32, the padded input and its copy in the library's own layout, the output and its
        copy, residual, shortcut and statistics, and the reordered weights.
        """
        time, height, width = self.axes
        low, high = time.source(0, 1)[0], min(time.size, frames * time.stride // time.upsample + time.kernel)
        near = min(height.size, rows * height.stride // height.upsample + height.kernel)
        source = (high - low) * near * width.size * self.in_channels
        padded = ((frames - 1) * time.stride + time.kernel) * ((rows - 1) * height.stride + height.kernel)
        padded *= (width.upsampled + width.kernel - 1) * self.in_channels
        out = frames * rows * width.out * self.out_channels
        weights = self.in_channels * self.out_channels * time.kernel * height.kernel * width.kernel
        return source * 2 * (4 + self.item) + 2 * padded * self.item + out * (4 + 5 * self.item) + weights * self.item

    def frames(self, target: int, limit: int, folded: bool = False) -> int:
        """Frames of a slab of whole frames: about `target` bytes, at least one; 0 where one costs more than `limit`.

        They are frames of the output; of the source, where upsampling is folded into the convolution.
        """
        time, height, width = self.axes
        if folded:
            frames, per_frame = time.size, time.upsample
            cost = 3 * self.cost(time.upsample, height.out)
        else:
            frames, per_frame = time.out, 1
            cost = self.cost(1, height.out)
        if cost > limit:
            return 0
        source = time.stride * height.size * width.size * self.in_channels
        out = per_frame * height.out * width.out * self.out_channels
        return max(1, min(frames, target // ((source + out) * self.item), limit // cost))

    def padded_input(
        self,
        source: Tensor,  # [t, h, W, C], the frames and rows that outputs [t0, t1), [h0, h1) read
        slab: Slab,
        dtype: torch.dtype,
    ) -> Tensor:  # [t', h', W', C] of dtype, upsampled and replicate-padded: what the unpadded convolution reads
        time, height, width = self.axes
        frames = time.gather(*slab[:2], source.device)
        rows = height.gather(*slab[2:], source.device)
        source = source[frames[:, None], rows]
        front, back = width.padding()
        stop = front + width.upsampled
        out = source.new_empty((*source.shape[:2], stop + back, self.in_channels), dtype=dtype)
        out[:, :, front:stop].unflatten(2, (width.size, width.upsample)).copy_(source.unsqueeze(3))
        out[:, :, :front] = out[:, :, front : front + 1]
        out[:, :, stop:] = out[:, :, stop - 1 : stop]
        return out

    def slabs(self, limit: int) -> Iterator[Slab]:
        """Slabs of the output, of about equal size that cost at most `limit` bytes, in order of time."""
        frames, rows = self.axes[0].out, self.axes[1].out
        count = _fewest(frames, lambda size: self.cost(size, rows) <= limit)
        bands = (
            1 if self.cost(-(-frames // count), rows) <= limit else _fewest(rows, lambda n: self.cost(1, n) <= limit)
        )
        for i in range(count):
            for j in range(bands):
                yield frames * i // count, frames * (i + 1) // count, rows * j // bands, rows * (j + 1) // bands


def _fewest(length: int, fits: Callable[[int], bool]) -> int:
    """The smallest number of about equal parts of `length` whose longest fits; `length` parts if none does."""
    return next((parts for parts in range(1, length) if fits(-(-length // parts))), length)
