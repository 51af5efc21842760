"""Encode and decode in bounded memory with the result of the plain pass (mode="exact" of the VAE).

GroupNorm's statistics run over all frames and pixels, so no tile equals the whole. Here every layer is finished before
the next one begins: it runs over slabs of frames (of rows, where one frame is too large), reads and writes stores
(vae_store.py), and merges the statistics of its output for the next norm while it writes. A sum is split differently
than in the plain pass; nothing else differs. No gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hunyuan_video.models.vae_blocks import CausalConv3d, FrameCausalAttention, GroupNorm, ResnetBlock
from hunyuan_video.models.vae_slabs import ConvPlan, Slab
from hunyuan_video.models.vae_store import ChannelStats, FileStore, Shape, Store, TensorStore, store_bytes

DEFAULT_BUDGET = 4 << 30
Stride = tuple[int, int, int]
NO_UPSAMPLING = (1, 1, 1)


@dataclass
class Activation:
    store: Store
    stats: ChannelStats

    @property
    def shape(self) -> Shape:
        return self.store.shape


class Planner:
    """Walks a network on shapes only and finds the least memory that exact mode needs."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.slab = 0  # bytes of the most expensive smallest slab
        self.attention_bytes = 0  # keys, values and one frame's work

    def conv(self, source: Shape, conv: CausalConv3d, upsample: Stride = NO_UPSAMPLING, **_: object) -> Shape:
        plan = ConvPlan.of(conv, source, upsample, self.dtype)
        self.slab = max(self.slab, plan.cost(1, 1))
        return plan.out_shape

    def resnet(self, source: Shape, block: ResnetBlock) -> Shape:
        return self.conv(self.conv(source, block.conv1), block.conv2)

    def attention(self, source: Shape, attention: FrameCausalAttention) -> Shape:
        frame = store_bytes((1, *source[1:]), self.dtype)
        self.attention_bytes = max(self.attention_bytes, (2 * source[0] + 12) * frame)
        return source


class Runner:
    """Does what Planner walked, for one sample, within `budget` bytes besides weights, input and result."""

    def __init__(self, device: torch.device, dtype: torch.dtype, plan: Planner, budget: int):
        self.device, self.dtype = device, dtype
        self.limit = max(plan.slab, budget // 4)
        if max(plan.slab, plan.attention_bytes) > budget:
            raise ValueError(
                f"memory_budget={budget} bytes is too small for this size; mode='exact' needs at least "
                f"{max(plan.slab, plan.attention_bytes)}"
            )
        self.free = budget - max(self.limit, plan.attention_bytes)

    def new_store(self, shape: Shape) -> Store:
        """In memory while the budget lasts; then on the host for a GPU, in a file for a CPU."""
        size = store_bytes(shape, self.dtype)
        if size <= self.free:
            return _Counted(self, torch.empty(shape, dtype=self.dtype, device=self.device), size)
        if self.device.type == "cpu":
            return FileStore(shape, self.dtype, self.device)
        return TensorStore(torch.empty(shape, dtype=self.dtype), self.device)

    def conv(
        self,
        source: Activation,
        conv: CausalConv3d,
        upsample: Stride = NO_UPSAMPLING,
        norm: GroupNorm | None = None,  # then SiLU, before the convolution
        residual: Activation | None = None,
        shortcut: CausalConv3d | None = None,  # 1x1x1, applied to the residual
        target: Store | None = None,  # may be the residual's own store: each slab is read before it is written
    ) -> Activation:
        plan = ConvPlan.of(conv, source.shape, upsample, self.dtype)
        affine = None if norm is None else source.stats.affine(norm)
        out = Activation(self.new_store(plan.out_shape) if target is None else target, ChannelStats())
        for slab in plan.slabs(self.limit):
            added = None
            if residual is not None:
                added = _channels_first(residual.store.read(*slab))
                added = added if shortcut is None else shortcut(added)
            x = self._conv_input(source.store, plan, slab, affine)
            values = conv(x, residual=added, padded=True)[0].permute(1, 2, 3, 0)
            out.stats.add(values)
            out.store.write(slab[0], slab[2], values)
        return out

    def _conv_input(
        self, store: Store, plan: ConvPlan, slab: Slab, affine: tuple[Tensor, Tensor] | None
    ) -> Tensor:  # [1, C, t', h', W']
        t0, t1, h0, h1 = slab
        x = store.read(*plan.axes[0].source(t0, t1), *plan.axes[1].source(h0, h1))
        if affine is not None:
            x = F.silu((x * affine[0]).add_(affine[1]), inplace=True)
        return _channels_first(plan.padded_input(x, slab, self.dtype))

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
        scale, shift = source.stats.affine(attention.group_norm)
        keys, values = torch.empty((2, frames * tokens, channels), dtype=self.dtype, device=self.device)
        out = Activation(source.store, ChannelStats())
        for t in range(frames):
            x = source.store.read(t, t + 1, 0, rows).reshape(tokens, channels)
            normed = (x * scale).add_(shift).to(self.dtype)
            keys[t * tokens : (t + 1) * tokens] = attention.to_k(normed)
            values[t * tokens : (t + 1) * tokens] = attention.to_v(normed)
            seen = (t + 1) * tokens
            mixed = F.scaled_dot_product_attention(
                attention.to_q(normed)[None, None], keys[None, None, :seen], values[None, None, :seen]
            )
            slab = (x + attention.to_out[0](mixed[0, 0])).view(1, rows, columns, channels)
            out.stats.add(slab)
            out.store.write(t, 0, slab)
        return out


class _Counted(TensorStore):
    """A store in memory that gives its bytes back to the runner's budget when it is dropped."""

    def __init__(self, runner: Runner, tensor: Tensor, size: int):
        super().__init__(tensor, runner.device)
        self._runner, self._size = runner, size
        runner.free -= size

    def __del__(self):
        self._runner.free += self._size


def _channels_first(slab: Tensor) -> Tensor:  # [t, h, W, C] -> [1, C, t, h, W], channels_last_3d
    return slab[None].permute(0, 4, 1, 2, 3)


def _mid(run, x, block):
    x = run.resnet(x, block.resnets[0])
    for attention in block.attentions:
        x = run.attention(x, attention)
    return run.resnet(x, block.resnets[1])


def _walk_encoder(run, encoder, x, target=None):
    x = run.conv(x, encoder.conv_in)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            x = run.resnet(x, resnet)
        for down in block.downsamplers:
            x = run.conv(x, down.conv)
    return run.conv(_mid(run, x, encoder.mid_block), encoder.conv_out, norm=encoder.conv_norm_out, target=target)


def _walk_decoder(run, decoder, x, target=None):
    x = _mid(run, run.conv(x, decoder.conv_in), decoder.mid_block)
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = run.resnet(x, resnet)
        for up in block.upsamplers:
            x = run.conv(x, up.conv, upsample=up.stride)
    return run.conv(x, decoder.conv_out, norm=decoder.conv_norm_out, target=target)


def encode_exact(encoder: nn.Module, video: Tensor, memory_budget: int | None) -> Tensor:
    """encoder(video), [B, C, T, H, W] to [B, C', t, h, w], in bounded memory; see `_run`."""
    return _run(_walk_encoder, encoder, video, memory_budget)


def decode_exact(decoder: nn.Module, latents: Tensor, memory_budget: int | None) -> Tensor:
    """decoder(latents), [B, C, t, h, w] to [B, C', T, H, W], in bounded memory; see `_run`."""
    return _run(_walk_decoder, decoder, latents, memory_budget)


@torch.no_grad()
def _run(walk: Callable[..., Any], network: nn.Module, x: Tensor, memory_budget: int | None) -> Tensor:
    """network(x), one sample after the other, within memory_budget bytes besides weights, input and result.

    memory_budget: None is DEFAULT_BUDGET. Raises ValueError when it cannot hold one row of a frame in the widest layer,
    or the keys and values of the middle attention.
    """
    device, dtype = x.device, next(network.parameters()).dtype
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    plan = Planner(dtype)
    frames, rows, columns, channels = walk(plan, network, (*x.shape[2:], x.shape[1]))
    out = torch.empty((len(x), channels, frames, rows, columns), dtype=dtype, device=device)
    runner = Runner(device, dtype, plan, DEFAULT_BUDGET if memory_budget is None else memory_budget)
    for sample, result in zip(x, out, strict=True):
        source = Activation(TensorStore(sample.permute(1, 2, 3, 0), device), ChannelStats())
        walk(runner, network, source, target=TensorStore(result.permute(1, 2, 3, 0), device))
    return out
