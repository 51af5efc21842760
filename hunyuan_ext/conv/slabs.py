"""Steps of a convolution layer done slab by slab: what runs a large volume in little memory, and out of the caches.

A slab is [t, h, W, C]: some frames (or rows) of one sample, channels innermost, so that whole frames are contiguous.
Each step is native where it can be (float32 and bfloat16 on CPUs, as the norms) and composed from torch operations
otherwise. No gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hunyuan_ext import reference
from hunyuan_ext.conv import causal_conv3d, kernels
from hunyuan_ext.core import plain
from hunyuan_ext.core.dispatch import takes
from hunyuan_ext.core.native import slow_bfloat16
from hunyuan_ext.core.types import FLOAT, Triple

NO_PAD = (0, 0, 0)
WIDE_VALUES = 1 << 18  # of a wide copy, for it to stay in the cache


def native_norm(x: Tensor, *others: Tensor) -> bool:
    return takes("channel_moments", x, *others) and takes("group_norm_silu", x)


def native_slabs(x: Tensor, *others: Tensor) -> bool:
    """True if every step below is native for tensors like these: plain, without gradients, float32 or bfloat16, CPU."""
    return native_norm(x, *others) and packs(x)


class ChannelMoments:
    """Mean and variance of every channel of a volume that arrives in slabs, summed in float64 around a fixed center."""

    def __init__(self) -> None:
        self.count = 0  # positions
        self.totals = torch.empty(
            0, dtype=torch.float32, device="cpu"
        )  # [3, C] float64: center, sum and sum of squares of the distances from it

    def add(self, slab: Tensor) -> None:  # [t, h, W, C]
        if self.count == 0:
            self.totals = torch.empty((3, slab.shape[-1]), dtype=torch.float64, device=slab.device)
        positions = slab.numel() // slab.shape[-1]
        if takes("channel_moments", slab):
            kernels.channel_moments(slab, self.totals, self.count)
        else:
            self._compose(slab.reshape(positions, -1))
        self.count += positions

    def _compose(self, rows: Tensor) -> None:  # [n, C]
        if self.count == 0:
            self.totals[0] = rows[:64].double().mean(0)
            self.totals[1:] = 0
        center = self.totals[0].to(torch.promote_types(rows.dtype, FLOAT))
        for part in rows.split(max(1, WIDE_VALUES // rows.shape[1])):
            distance = part - center
            self.totals[1] += distance.sum(0)
            self.totals[2] += distance.square_().sum(0)

    def affine(self, norm: torch.nn.GroupNorm) -> Tensor:
        """[3, C]: (x - affine[0]) * affine[1] + affine[2] = norm(x); float32, or float64 for a float64 norm."""
        center, first, second = (row.view(norm.num_groups, -1) for row in self.totals)
        shift = first / self.count
        channel_mean = center + shift
        mean = channel_mean.mean(1, keepdim=True)
        variance = second / self.count - shift.square() + (channel_mean - mean).square()
        scale = torch.rsqrt(variance.mean(1, keepdim=True) + norm.eps) * norm.weight.double().view_as(center)
        out = torch.stack((mean.expand_as(center).flatten(), scale.flatten(), norm.bias.double()))
        return out.to(torch.promote_types(norm.weight.dtype, FLOAT))


def norm_slab(
    x: Tensor,  # [t, h, W, C]
    affine: Tensor,  # [3, C], of ChannelMoments.affine
    out: Tensor,  # [t + pad[0], h + 2 pad[1], W + 2 pad[2], C] of x's dtype, contiguous
    *,
    silu: bool = True,
    pad: Triple = NO_PAD,
) -> Tensor:  # out
    """out = the replicate-padded silu((x - affine[0]) * affine[1] + affine[2])."""
    if native_norm(x, affine, out) and affine.dtype == FLOAT:
        kernels.norm_slab(x, affine, out, silu, pad)
        return out
    wide = (x - affine[0]).mul_(affine[1]).add_(affine[2])
    if silu:
        wide = torch.nn.functional.silu(wide, inplace=True)
    return pad_slab(wide.to(out.dtype), out, pad)


def pad_slab(x: Tensor, out: Tensor, pad: Triple) -> Tensor:  # [t, h, W, C] -> out, as for `norm_slab`
    """out = x with pad[0] copies of the first frame in front, pad[1] rows and pad[2] columns around it."""
    if plain.device_type(x) == "cpu" and takes("pad_causal", x, out) and x.dtype == out.dtype:
        kernels.pad_slab(x, out, pad)
        return out
    return out.copy_(reference.pad_causal(x.permute(3, 0, 1, 2)[None], pad)[0].permute(1, 2, 3, 0))


class SlabConvolution:
    """An unpadded convolution of many slabs of one shape; the weight is laid out for the library once.

    That copy lives as long as the object. One-tap kernels are matrix products and need none.
    """

    def __init__(
        self,
        weight: Tensor,  # [N, C, kt, kh, kw]
        bias: Tensor | None,  # [N]
        stride: Triple,
        slab: tuple[int, int, int],  # frames, rows, columns of the slabs, padding included
    ):
        self.weight, self.bias, self.stride = weight.detach(), None if bias is None else bias.detach(), stride
        self.packed: Tensor | None = None
        if packs(weight):
            shape = [1, weight.shape[1], *slab]
            reorder: Any = torch._C._nn.mkldnn_reorder_conv3d_weight  # its stub lacks the shape
            self.packed = reorder(self.weight.to_mkldnn(), [0, 0, 0], list(stride), [1, 1, 1], 1, shape)

    def __call__(self, x: Tensor) -> Tensor:  # [t', h', W', C] -> [t, h, W, N], contiguous
        volume = _volume(x)
        if self.packed is None:
            out = causal_conv3d(volume, self.weight, self.bias, stride=self.stride, padded=True)
        else:
            out = torch.ops.mkldnn._convolution_pointwise(volume, *self._arguments(), "none", [], "")
        return out[0].permute(1, 2, 3, 0).contiguous()

    def add_to(self, out: Tensor, x: Tensor) -> None:  # out: [t, h, W, N], contiguous; x: [t', h', W', C]
        """out += the convolution of x, rounded once."""
        if self.packed is None:
            out += self(x)
        else:
            torch.ops.mkldnn._convolution_pointwise_.binary(
                _volume(out), _volume(x), *self._arguments(), "add", 1.0, None, [], None
            )

    def _arguments(self) -> tuple:
        return self.packed, self.bias, [0, 0, 0], list(self.stride), [1, 1, 1], 1


def packs(weight: Tensor) -> bool:
    """True if torch's oneDNN convolves with weights of this dtype and device that are laid out beforehand."""
    return bool(
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and not slow_bfloat16(weight)
        and not plain.dispatch_modes()
        and not plain.autocast_enabled(weight.device.type)
    )


def _volume(slab: Tensor) -> Tensor:  # [t, h, W, C] -> [1, C, t, h, W], channels_last_3d
    return slab[None].permute(0, 4, 1, 2, 3)
