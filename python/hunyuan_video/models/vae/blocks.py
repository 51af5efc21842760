"""Layers of the causal video VAE: causal convolution, ResNet, resampling, middle block (paper section 4.1).

Tensors are [B, C, T, H, W]. Attribute names are the released checkpoint's key names. GroupNorm statistics run over
T, H and W of the whole tensor, so the network is causal in its convolutions and attention but not in its norms.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hunyuan_ext as ops
from hunyuan_video.models.plain import is_plain
from hunyuan_video.models.vae.upsample import FoldedWeights, can_fold, upsample_conv

EPS = 1e-6
CONV_PAD = (2, 1, 1)  # (front frames, rows, columns) that a causal 3x3x3 convolution reads beyond its output


class CausalConv3d(nn.Module):
    """Convolution whose output frame t sees input frames <= t; the border is replicated."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: tuple[int, int, int] = (1, 1, 1)):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride)
        self.stride = stride
        self.pad = (kernel - 1, kernel // 2, kernel // 2)

    def forward(
        self,
        x: Tensor,  # [B, C, T, H, W], or the replicate-padded buffer if padded
        residual: Tensor | None = None,  # shape of the output, added to it
        padded: bool = False,
    ) -> Tensor:  # [B, C', ceil(T / st), ceil(H / sh), ceil(W / sw)]
        conv, x = self.conv, kernel_layout(x)
        if not is_plain(conv, nn.Conv3d):
            out = conv(x if padded else ops.pad_causal(x, self.pad))
            return out if residual is None else out + residual
        return ops.causal_conv3d(x, conv.weight, conv.bias, stride=self.stride, residual=residual, padded=padded)

    @property
    def is_open(self) -> bool:
        """True if neither this layer nor its convolution has anything around it: their weights are all there is."""
        return is_plain(self, CausalConv3d) and is_plain(self.conv, nn.Conv3d)

    def with_moments(self, x: Tensor, groups: int) -> tuple[Tensor, Tensor | None]:
        """The convolution of a padded buffer, and what a GroupNorm of its output takes as moments (CUDA, or None)."""
        if not self.is_open:
            return self(x, padded=True), None
        conv, x = self.conv, kernel_layout(x)
        return ops.causal_conv3d_moments(x, conv.weight, conv.bias, stride=self.stride, padded=True, groups=groups)


def kernel_layout(x: Tensor) -> Tensor:  # [B, C, T, H, W]
    """x as the CUDA kernels take it, channels-last, which its convolution's output then is; elsewhere x itself."""
    wanted = x.is_cuda and x.dtype in (torch.bfloat16, torch.float16)
    return x.contiguous(memory_format=torch.channels_last_3d) if wanted else x


class GroupNorm(nn.GroupNorm):
    """GroupNorm over (C / groups, T, H, W), optionally SiLU and the padding of the convolution that follows."""

    def __init__(self, groups: int, channels: int):
        super().__init__(groups, channels, eps=EPS)

    def forward(
        self,
        x: Tensor,  # [B, C, T, H, W]
        silu: bool = False,
        pad: tuple[int, int, int] = (0, 0, 0),
        moments: Tensor | None = None,  # of x, from the convolution that made it
    ) -> Tensor:
        return ops.group_norm_silu(
            x, self.weight, self.bias, groups=self.num_groups, eps=self.eps, silu=silu, pad=pad, moments=moments
        )


class ResnetBlock(nn.Module):
    """x + conv2(silu(norm2(conv1(silu(norm1(x)))))), with a 1x1x1 shortcut where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, groups: int):
        super().__init__()
        self.norm1 = GroupNorm(groups, in_channels)
        self.conv1 = CausalConv3d(in_channels, out_channels)
        self.norm2 = GroupNorm(groups, out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels)
        resized = in_channels != out_channels
        self.conv_shortcut = CausalConv3d(in_channels, out_channels, kernel=1) if resized else None

    def forward(self, x: Tensor) -> Tensor:  # [B, C, T, H, W] -> [B, C', T, H, W]
        hidden, moments = self.conv1.with_moments(self.norm1(x, silu=True, pad=CONV_PAD), self.norm2.num_groups)
        hidden = self.norm2(hidden, silu=True, pad=CONV_PAD, moments=moments)
        shortcut = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return self.conv2(hidden, residual=shortcut, padded=True)


class Downsample(nn.Module):
    """Causal convolution with a stride: T -> ceil(T / st), H -> ceil(H / sh)."""

    def __init__(self, channels: int, stride: tuple[int, int, int]):
        super().__init__()
        self.conv = CausalConv3d(channels, channels, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Nearest neighbor, then a causal convolution. Frame 0 is not doubled in time: T -> 1 + st * (T - 1).

    In inference on a CPU both at once, with 8 or 12 taps instead of 27 (upsample.py): the same to rounding.
    """

    def __init__(self, channels: int, stride: tuple[int, int, int]):
        super().__init__()
        self.stride = stride
        self.conv = CausalConv3d(channels, channels)
        self._folded = FoldedWeights()

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.is_open:
            weight, bias = self.conv.conv.weight, self.conv.conv.bias
            if can_fold(x, weight, self.stride):
                return upsample_conv(x, self.folded_weights(), bias, self.stride)
        return self.conv(upsample_nearest(x, self.stride))

    def folded_weights(self) -> Tensor:  # [parities, N, C, taps...], of vae_upsample.fold
        return self._folded.of(self.conv.conv.weight, self.stride)

    def _apply(self, fn, recurse=True):
        self._folded.clear()
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> Upsample:
        self._folded.clear()
        return super().train(mode)


def upsample_nearest(x: Tensor, stride: tuple[int, int, int]) -> Tensor:  # [B, C, T, H, W]
    """Repeat rows and columns, and every frame but the first, -> [B, C, 1 + st * (T - 1), sh * H, sw * W]."""
    if stride[0] > 1 and x.shape[2] > 1:
        x = torch.cat((x[:, :, :1], x[:, :, 1:].repeat_interleave(stride[0], dim=2)), dim=2)
    return F.interpolate(x, scale_factor=(1, stride[1], stride[2]), mode="nearest") if max(stride[1:]) > 1 else x


class FrameCausalAttention(nn.Module):
    """Single-head self-attention in which a token sees all tokens of its own and of earlier frames."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.group_norm = GroupNorm(groups, channels)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:  # [B, C, T, H, W] -> same
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)  # [B, T*H*W, C], frame by frame
        q, k, v = (proj(tokens)[:, None] for proj in (self.to_q, self.to_k, self.to_v))  # [B, 1, T*H*W, C]
        out = frame_causal_attention(q, k, v, frame_tokens=x.shape[3] * x.shape[4])[:, 0]
        return x + self.to_out[0](out).transpose(1, 2).unflatten(2, x.shape[2:])


def frame_causal_attention(
    q: Tensor,  # [B, H, S, D]
    k: Tensor,  # [B, H, S, D]
    v: Tensor,  # [B, H, S, D]
    frame_tokens: int,
) -> Tensor:  # [B, H, S, D]
    """Block-causal attention, a call per frame over the keys up to it: half the work of a mask, no S x S memory."""
    ends = range(frame_tokens, q.shape[2] + 1, frame_tokens)
    frames = [
        F.scaled_dot_product_attention(q[:, :, end - frame_tokens : end], k[:, :, :end], v[:, :, :end]) for end in ends
    ]
    return torch.cat(frames, dim=2)


class MidBlock(nn.Module):
    """ResNet, attention (optional), ResNet at the lowest resolution."""

    def __init__(self, channels: int, groups: int, attention: bool):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, groups) for _ in range(2))
        self.attentions = nn.ModuleList([FrameCausalAttention(channels, groups)] if attention else [])

    def forward(self, x: Tensor) -> Tensor:  # [B, C, T, H, W] -> same
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class DownBlock(nn.Module):
    """One encoder level: ResNets, then a strided convolution unless every stride is 1."""

    def __init__(self, in_channels: int, out_channels: int, layers: int, groups: int, stride: tuple[int, int, int]):
        super().__init__()
        widths = [in_channels] + [out_channels] * layers
        self.resnets = nn.ModuleList(ResnetBlock(a, b, groups) for a, b in pairwise(widths))
        self.downsamplers = nn.ModuleList([Downsample(out_channels, stride)] if max(stride) > 1 else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class UpBlock(nn.Module):
    """One decoder level: ResNets, then upsampling unless every stride is 1."""

    def __init__(self, in_channels: int, out_channels: int, layers: int, groups: int, stride: tuple[int, int, int]):
        super().__init__()
        widths = [in_channels] + [out_channels] * layers
        self.resnets = nn.ModuleList(ResnetBlock(a, b, groups) for a, b in pairwise(widths))
        self.upsamplers = nn.ModuleList([Upsample(out_channels, stride)] if max(stride) > 1 else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x
