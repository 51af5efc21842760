"""What a slab of a convolution's output reads: normalised, replicate-padded source frames, or bands of rows of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hunyuan_ext.slabs import norm_slab, pad_slab
from hunyuan_video.models.vae_slabs import ConvPlan, Slab
from hunyuan_video.models.vae_store import Shape, Store


class Window:
    """A buffer of padded frames that moves along the source, as many outputs at a time as asked for."""

    def __init__(
        self,
        source: Store,
        affine: Tensor | None,  # [3, C]: of the norm before SiLU; None: neither
        kernel: tuple[int, ...],  # of the convolution: frames, rows, columns
        stride: int,  # of the convolution in time
        outputs: int,  # frames of output at most
        memory: Callable[[Shape], Tensor],  # makes the buffer
    ):
        self.source, self.affine, self.taps, self.stride = source, affine, kernel[0], stride
        self.sides = kernel[1] // 2, kernel[2] // 2
        _, rows, columns, channels = source.shape
        self.shape = (outputs - 1) * stride + kernel[0], rows + 2 * self.sides[0], columns + 2 * self.sides[1]
        self.buffer = memory((*self.shape, channels))
        self.filled = self.read = 0  # frames in the buffer; frames of the source read so far

    def move(self, outputs: int) -> Tensor:  # [frames, rows, columns, C]
        """The window of the next `outputs` frames of output; the one before is gone."""
        filled = (outputs - 1) * self.stride + self.taps
        front = self.taps - 1 if self.read == 0 else 0
        kept = self.taps - self.stride if self.read else 0
        for i in range(kept):
            self.buffer[i] = self.buffer[self.filled - kept + i]
        start, self.read, self.filled = self.read, self.read + filled - kept - front, filled
        x = self.source.read(start, self.read, 0, self.source.shape[1]).to(self.buffer.dtype)
        target, pad = self.buffer[kept:filled], (front, *self.sides)
        if self.affine is None:
            pad_slab(x, target, pad)
        else:
            norm_slab(x, self.affine, target, pad=pad)
        return self.buffer[:filled]


def input_of_band(
    store: Store,
    plan: ConvPlan,
    slab: Slab,
    affine: Tensor | None,  # [3, C], as for Window
    dtype: torch.dtype,
) -> Tensor:  # [t', h', W', C]
    """What outputs [t0, t1), [h0, h1) read: of some rows, and upsampled where the plan says so."""
    t0, t1, h0, h1 = slab
    x = store.read(*plan.axes[0].source(t0, t1), *plan.axes[1].source(h0, h1)).contiguous()
    if affine is not None:
        x = norm_slab(x, affine, torch.empty_like(x, dtype=dtype))
    return plan.padded_input(x, slab, dtype)
