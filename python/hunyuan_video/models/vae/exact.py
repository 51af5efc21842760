"""Encode and decode in bounded memory with the result of the plain pass (mode="exact" of the VAE).

GroupNorm's statistics run over all frames and pixels, so no tile equals the whole. Here every layer is finished before
the next one begins: it runs over slabs of frames (of rows, where one frame is too large), reads and writes stores
(store.py), and merges the statistics of its output for the next norm while it writes (streaming.py). A sum is
split differently than in the plain pass; nothing else differs. No gradients. Plain mode does the same, without a
budget, where that is fastest: in inference on CPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hunyuan_ext.conv.slabs import ChannelMoments, native_slabs
from hunyuan_video.models.plain import first_unlike
from hunyuan_video.models.vae.blocks import (
    CausalConv3d,
    DownBlock,
    Downsample,
    FrameCausalAttention,
    GroupNorm,
    MidBlock,
    ResnetBlock,
    UpBlock,
    Upsample,
)
from hunyuan_video.models.vae.slabs import ConvPlan
from hunyuan_video.models.vae.store import Shape, TensorStore, store_bytes
from hunyuan_video.models.vae.streaming import Activation, Runner

DEFAULT_BUDGET = 4 << 30
LIBRARIES = 16 << 20  # at least, of any budget: code and buffers that torch and oneDNN load when they first convolve
# Layers whose forward the walks below repeat. Others, such as an adapter around one of them, need the modules' own way.
LAYERS: tuple[type, ...] = (nn.Conv3d, nn.Linear, nn.ModuleList, CausalConv3d, GroupNorm, FrameCausalAttention)
LAYERS += (ResnetBlock, MidBlock, DownBlock, Downsample, UpBlock, Upsample)
Stride = tuple[int, int, int]


class Planner:
    """Walks a network on shapes only and finds the least memory that exact mode needs."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.slab = 0  # bytes of the most expensive smallest slab
        self.work = 0  # multiplications of the convolutions
        self.attention_bytes = 0  # keys, values and one frame's work

    @property
    def least(self) -> int:
        """The smallest budget."""
        return max(self.slab, self.attention_bytes)

    def shares(self, budget: int) -> tuple[int, int]:
        """Bytes of a budget for the work on a slab, and for activations that stay in memory."""
        limit = max(self.slab, budget // 4)
        return limit, budget - max(limit, self.attention_bytes) - max(LIBRARIES, budget // 8)

    def conv(self, source: Shape, conv: CausalConv3d, upsample: Stride = (1, 1, 1), **_: object) -> Shape:
        plan = ConvPlan.of(conv, source, upsample, self.dtype)
        self.slab = max(self.slab, plan.cost(1, 1))
        self.work += plan.work
        return plan.out_shape

    def upsample(self, source: Shape, up: Upsample) -> Shape:
        return self.conv(source, up.conv, up.stride)

    def resnet(self, source: Shape, block: ResnetBlock) -> Shape:
        return self.conv(self.conv(source, block.conv1), block.conv2)

    def attention(self, source: Shape, attention: FrameCausalAttention) -> Shape:
        frame = store_bytes((1, *source[1:]), self.dtype)
        self.attention_bytes = max(self.attention_bytes, (2 * source[0] + 12) * frame)
        return source


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


def walk_decoder(run, decoder, x, target=None):
    x = _mid(run, run.conv(x, decoder.conv_in), decoder.mid_block)
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = run.resnet(x, resnet)
        for up in block.upsamplers:
            x = run.upsample(x, up)
    return run.conv(x, decoder.conv_out, norm=decoder.conv_norm_out, target=target)


def encode_exact(encoder: nn.Module, video: Tensor, memory_budget: int | None) -> Tensor:
    """encoder(video), [B, C, T, H, W] to [B, C', t, h, w], in bounded memory; see `_run_within`."""
    return _run_within(_walk_encoder, encoder, video, memory_budget)


def decode_exact(decoder: nn.Module, latents: Tensor, memory_budget: int | None) -> Tensor:
    """decoder(latents), [B, C, t, h, w] to [B, C', T, H, W], in bounded memory; see `_run_within`."""
    return _run_within(walk_decoder, decoder, latents, memory_budget)


def streams(network: nn.Module, x: Tensor, positions: int) -> bool:  # x: [B, C, T, H, W]
    """True if plain mode runs slab by slab: inference of the unaltered network on a CPU, on `positions` or more."""
    if x.device.type != "cpu" or x[0, 0].numel() < positions or torch.compiler.is_compiling():
        return False
    parameters = tuple(network.parameters())
    if not native_slabs(x, *parameters) or any(parameter.dtype != x.dtype for parameter in parameters):
        return False
    return not altered(network)


def altered(network: nn.Module) -> str:
    """The first layer of an encoder or decoder that the walks here would not do justice, and why; "" if none."""
    kind = type(network)
    if kind.__module__ != CausalConv3d.__module__.replace("blocks", "model"):
        return f"{kind.__name__} is not the VAE's own"
    return first_unlike(network, kind, *LAYERS)


def encode_streamed(encoder: nn.Module, video: Tensor) -> Tensor:
    """encoder(video) slab by slab, whole activations in memory: for inference on CPUs, see `streams`."""
    return _run(_walk_encoder, encoder, video, Runner(video.device, video.dtype))


def decode_streamed(decoder: nn.Module, latents: Tensor) -> Tensor:
    """decoder(latents) slab by slab, whole activations in memory: for inference on CPUs, see `streams`."""
    return _run(walk_decoder, decoder, latents, Runner(latents.device, latents.dtype))


def _run_within(walk: Callable[..., Any], network: nn.Module, x: Tensor, memory_budget: int | None) -> Tensor:
    """network(x), one sample after the other, within memory_budget bytes besides weights, input and result.

    memory_budget: None is DEFAULT_BUDGET. Raises ValueError when it cannot hold one row of a frame in the widest layer,
    or the keys and values of the middle attention; and where a layer is not plain: it would not be called.
    """
    return _run(walk, network, x, Runner(*within(walk, network, x, memory_budget)))


def within(
    walk: Callable[..., Any], network: nn.Module, x: Tensor, memory_budget: int | None
) -> tuple[torch.device, torch.dtype, int, int]:
    """Arguments of the runner that keeps a budget; ValueError as `_run_within` says."""
    if reason := altered(network):
        raise ValueError(f"mode='exact' calls no layers, but {reason}; use mode='tiled' or 'plain'")
    dtype = next(network.parameters()).dtype
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    plan, budget = Planner(dtype), DEFAULT_BUDGET if memory_budget is None else memory_budget
    walk(plan, network, (*x.shape[2:], x.shape[1]))
    least = plan.least
    if least > budget:
        raise ValueError(
            f"memory_budget={budget} bytes is too small for this size; mode='exact' needs at least {least}"
        )
    return x.device, dtype, *plan.shares(budget)


@torch.no_grad()
def _run(walk: Callable[..., Any], network: nn.Module, x: Tensor, runner: Runner) -> Tensor:
    plan = Planner(runner.dtype)
    frames, rows, columns, channels = walk(plan, network, (*x.shape[2:], x.shape[1]))
    runner.work, runner.phase = plan.work * len(x), "decoding" if walk is walk_decoder else "encoding"
    out = torch.empty((len(x), channels, frames, rows, columns), dtype=runner.dtype, device=x.device)
    for sample, result in zip(x, out, strict=True):
        source = Activation(TensorStore(sample.permute(1, 2, 3, 0), x.device), ChannelMoments())
        walk(runner, network, source, target=TensorStore(result.permute(1, 2, 3, 0), x.device))
    return out
