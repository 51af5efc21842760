"""Runs the layers of the VAE over slabs of whole frames: what plain mode on CPUs and exact mode are made of.

A layer reads its source a few frames at a time: normalize into a padded buffer that stays in the caches, convolve,
add to the residual in place, and take the sums for the next norm while the result is still there. The last frames of
the buffer are the first of the next slab, so nothing is computed twice, and large memory is touched for the source and
the result of a layer alone. Where one frame is too large for a slab, bands of rows take its place. No gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext.conv.slabs import ChannelMoments, SlabConvolution, norm_slab, pad_slab
from hunyuan_ext.core.heap import release_free_memory
from hunyuan_video.models.interruption import interruption_point
from hunyuan_video.models.vae.blocks import CausalConv3d, FrameCausalAttention, GroupNorm, ResnetBlock, Upsample
from hunyuan_video.models.vae.slabs import ConvPlan, Slab
from hunyuan_video.models.vae.store import FileStore, Shape, Store, TensorStore, store_bytes
from hunyuan_video.models.vae.upsample import FOLDED_STRIDES, put_parities
from hunyuan_video.phases import tell


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
        first: int = 0,  # frame of output to begin with; stride is 1 where it is not 0
    ):
        self.source, self.affine, self.taps, self.stride = source, affine, kernel[0], stride
        self.sides = kernel[1] // 2, kernel[2] // 2
        _, rows, columns, channels = source.shape
        self.shape = (outputs - 1) * stride + kernel[0], rows + 2 * self.sides[0], columns + 2 * self.sides[1]
        self.buffer = memory((*self.shape, channels))
        self.filled = 0  # frames in the buffer
        self.front = max(self.taps - 1 - first, 0)  # frames before the source, copies of its first one
        self.read = max(first - self.taps + 1, 0)  # frames of the source that were read, or are not needed

    def move(self, outputs: int) -> Tensor:  # [frames, rows, columns, C]
        """The window of the next `outputs` frames of output; the one before is gone."""
        filled = (outputs - 1) * self.stride + self.taps
        kept = self.taps - self.stride if self.filled else 0
        front, self.front = self.front, 0
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
    """The input that outputs [t0, t1), [h0, h1) read: some rows, upsampled where the plan says so."""
    t0, t1, h0, h1 = slab
    x = store.read(*plan.axes[0].source(t0, t1), *plan.axes[1].source(h0, h1)).contiguous()
    if affine is not None:
        x = norm_slab(x, affine, torch.empty_like(x, dtype=dtype))
    return plan.padded_input(x, slab, dtype)


def bounds_of(frames: int, step: int) -> list[int]:
    """First frames of slabs of `step` frames, and the end."""
    return [*range(0, frames, step), frames]


SLAB_BYTES = 16 << 20  # of the input and output of a slab of several frames: they stay in the caches
UNLIMITED = 1 << 62
Reach = Callable[[int, int], tuple[int, int]]  # frames of output [t0, t1) -> frames of the source that they read


@dataclass
class Activation:
    store: Store
    moments: ChannelMoments

    @property
    def shape(self) -> Shape:
        return self.store.shape


class Runner:
    """The layers for one sample after the other.

    limit: bytes that the work on a slab may take. room: bytes of activations to keep in memory; more go to the host
    (for a GPU) or into a file.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, limit: int = UNLIMITED, room: int = UNLIMITED):
        self.device, self.dtype, self.limit, self.room = device, dtype, limit, room
        self._window = torch.empty(0, dtype=dtype, device=device)
        self.work = self.done = 0  # multiplications, in all and so far; 0: nobody is told
        self.phase = "decoding"
        self._spare: list[Tensor] = []  # memory of dropped activations: the next is often of the same size
        release_free_memory()  # of the loading, or of a transformer's steps

    def conv(
        self,
        source: Activation,
        conv: CausalConv3d,
        norm: GroupNorm | None = None,  # then SiLU, before the convolution
        residual: Activation | None = None,
        shortcut: CausalConv3d | None = None,  # 1x1x1, applied to the residual
        target: Store | None = None,  # may be the residual's own store: each slab is read before it is written
    ) -> Activation:
        plan = ConvPlan.of(conv, source.shape, (1, 1, 1), self.dtype)
        affine = None if norm is None else source.moments.affine(norm)
        frames = plan.frames(SLAB_BYTES, self.limit)
        if frames == 0:
            return self._bands(source, conv, plan, affine, residual, shortcut, target)
        bounds = bounds_of(plan.out_shape[0], frames)
        near = self._near(source, bounds, plan.axes[0].source)
        added = None if residual is None else self._near(residual, bounds)
        first, last = self._span(bounds)
        out = self._output(plan.out_shape, bounds, target)
        window = Window(near, affine, conv.conv.kernel_size, conv.stride[0], frames, self._window_memory, first)
        weights = SlabConvolution(conv.conv.weight, conv.conv.bias, conv.stride, window.shape)
        for t0 in range(first, last, frames):
            interruption_point()
            t1 = min(t0 + frames, last)
            x = window.move(t1 - t0)
            values = out.store.view(t0, t1)
            if added is None:
                made = weights(x)
                values = made if values is None else values.copy_(made)
            else:
                values = _start_from(added.read(t0, t1, 0, plan.out_shape[1]), shortcut, values)
                weights.add_to(values, x)
            _finish(out, t0, values)
        if plan.out_shape[-1] != source.shape[-1]:
            release_free_memory()
        self._done(plan, out)
        return out

    def upsample(self, source: Activation, up: Upsample) -> Activation:
        """Nearest upsampling and its convolution, folded: every parity of the output is some channels of one result."""
        conv = up.conv.conv
        plan = ConvPlan.of(up.conv, source.shape, up.stride, self.dtype)
        step = up.stride[0]  # frames of the output for a frame of the source
        frames = plan.frames(SLAB_BYTES, self.limit, folded=True) if set(up.stride) <= set(FOLDED_STRIDES) else 0
        if frames == 0:
            return self._bands(source, up.conv, plan, None, None, None, None)
        folded = up.folded_weights()  # [parities, N, C, taps...]
        bounds, taps = bounds_of(source.shape[0], frames), folded.shape[3]
        near = self._near(source, bounds, lambda k0, k1: (max(k0 - taps + 1, 0), k1))
        first, last = self._span(bounds)
        made = [max(0, step * (k - 1) + 1) for k in bounds]
        out = self._output(plan.out_shape, made, None)
        window = Window(near, None, (taps, 3, 3), 1, frames, self._window_memory, first)
        bias = None if conv.bias is None else conv.bias.repeat(len(folded))
        weights = SlabConvolution(folded.flatten(0, 1), bias, (1, 1, 1), window.shape)
        for k0 in range(first, last, frames):
            interruption_point()
            k1 = min(k0 + frames, last)
            t0, t1 = max(0, step * (k0 - 1) + 1), step * (k1 - 1) + 1
            values = out.store.view(t0, t1)
            if values is None:
                values = torch.empty((t1 - t0, *plan.out_shape[1:]), dtype=self.dtype, device=self.device)
            put_parities(weights(window.move(k1 - k0)), values, up.stride, first=k0 == 0)
            _finish(out, t0, values)
        release_free_memory()  # what follows has larger temporaries: none fits where these were
        self._done(plan, out)
        return out

    def _span(self, bounds: Sequence[int]) -> tuple[int, int]:
        """Frames that are made here, of a layer whose slabs begin and end at `bounds`."""
        return bounds[0], bounds[-1]

    def _near(self, x: Activation, bounds: Sequence[int], reach: Reach = lambda t0, t1: (t0, t1)) -> Store:
        """A store that has the frames of x which are read here. reach: those that slabs [t0, t1) read."""
        return x.store

    def _output(self, shape: Shape, bounds: Sequence[int], target: Store | None) -> Activation:
        """The output of a layer, without values yet, with a store for the frames made here: `target` if it is one."""
        return Activation(self._new_store(shape) if target is None else target, ChannelMoments())

    def _done(self, plan: ConvPlan, out: Activation) -> None:
        """The layer is done."""
        self.done += plan.work
        tell(self.phase, self.done, self.work)

    def resnet(self, source: Activation, block: ResnetBlock) -> Activation:
        hidden = self.conv(source, block.conv1, norm=block.norm1)
        target = source.store if block.conv_shortcut is None else None
        return self.conv(
            hidden, block.conv2, norm=block.norm2, residual=source, shortcut=block.conv_shortcut, target=target
        )

    def attention(self, source: Activation, attention: FrameCausalAttention) -> Activation:
        """Frame by frame in place, keeping keys and values of the frames so far."""
        frames, rows, columns, channels = source.shape
        tokens = rows * columns
        affine = source.moments.affine(attention.group_norm)
        keys, values = torch.empty((2, frames * tokens, channels), dtype=self.dtype, device=self.device)
        out = Activation(source.store, ChannelMoments())
        for t in range(frames):
            interruption_point()
            x = source.store.read(t, t + 1, 0, rows).contiguous()
            normed = norm_slab(x, affine, torch.empty_like(x, dtype=self.dtype), silu=False).view(tokens, channels)
            seen = (t + 1) * tokens
            keys[seen - tokens : seen] = attention.to_k(normed)
            values[seen - tokens : seen] = attention.to_v(normed)
            mixed = F.scaled_dot_product_attention(
                attention.to_q(normed)[None, None], keys[None, None, :seen], values[None, None, :seen]
            )
            slab = x + attention.to_out[0](mixed[0, 0]).view(x.shape)
            out.moments.add(slab)
            out.store.write(t, 0, slab)
        return out

    def _bands(
        self,
        source: Activation,
        conv: CausalConv3d,
        plan: ConvPlan,
        affine: Tensor | None,
        residual: Activation | None,
        shortcut: CausalConv3d | None,
        target: Store | None,
    ) -> Activation:
        """The layer for frames that are too large for a slab: band by band."""
        slabs = list(plan.slabs(self.limit))
        bounds = [*sorted({slab[0] for slab in slabs}), plan.out_shape[0]]
        near = self._near(source, bounds, plan.axes[0].source)
        added = None if residual is None else self._near(residual, bounds)
        first, last = self._span(bounds)
        out = self._output(plan.out_shape, bounds, target)
        weights: SlabConvolution | None = None  # for bands that are nearly all of one shape
        for slab in slabs:
            if not first <= slab[0] < last:
                continue
            interruption_point()
            x = input_of_band(near, plan, slab, affine, self.dtype)
            if weights is None:
                weights = SlabConvolution(
                    conv.conv.weight, conv.conv.bias, conv.stride, (x.shape[0], x.shape[1], x.shape[2])
                )
            if added is None:
                values = weights(x)
            else:  # a copy: the store's own memory may be read again for the next band
                values = _start_from(added.read(*slab).clone(), shortcut, None)
                weights.add_to(values, x)
            out.moments.add(values)
            out.store.write(slab[0], slab[2], values)
        self._done(plan, out)
        return out

    def _new_store(self, shape: Shape) -> Store:
        """In memory while there is room; then on the host for a GPU, in a file for a CPU."""
        size = store_bytes(shape, self.dtype)
        if size <= self.room:
            return _Counted(self, self._large(shape), size)
        self._spare.clear()
        if self.device.type == "cpu":
            return FileStore(shape, self.dtype, self.device)
        return TensorStore(torch.empty(shape, dtype=self.dtype, device="cpu"), self.device)

    def _large(self, shape: Shape) -> Tensor:
        """Memory that an activation of the same size has left, so that its pages need not be made again; or fresh."""
        for i, spare in enumerate(self._spare):
            if spare.numel() == math.prod(shape):
                return self._spare.pop(i).view(shape)
        self._spare.clear()
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def _window_memory(self, shape: Shape) -> Tensor:
        size = math.prod(shape)
        if self._window.numel() < size:
            self._window = torch.empty(size, dtype=self.dtype, device=self.device)
        return self._window[:size].view(shape)


class _Counted(TensorStore):
    """A store in memory that gives its bytes back to the runner when it is dropped."""

    def __init__(self, runner: Runner, tensor: Tensor, size: int):
        super().__init__(tensor, runner.device)
        self._runner, self._size = runner, size
        runner.room -= size

    def __del__(self):
        self._runner.room += self._size
        self._runner._spare.append(self.tensor)


def _start_from(added: Tensor, shortcut: CausalConv3d | None, values: Tensor | None) -> Tensor:  # [t, h, W, C]
    """The residual, in `values` if given, for a convolution to be added to."""
    if shortcut is None:
        if values is None:
            return added.contiguous()
        return values if values.is_set_to(added) else values.copy_(added)
    weight, bias = shortcut.conv.weight.flatten(1), shortcut.conv.bias
    if values is None or bias is None or weight.dtype != values.dtype:
        made = F.linear(added, weight, bias)
        return made if values is None else values.copy_(made)
    torch.addmm(bias, added.flatten(0, 2), weight.t(), out=values.flatten(0, 2))
    return values


def _finish(out: Activation, t0: int, values: Tensor) -> None:
    out.moments.add(values)
    if out.store.view(t0, t0 + len(values)) is None:
        out.store.write(t0, 0, values)
