"""Causal 3D convolution of the VAE."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext import _check, _conv_gradients, _cuda, _native, reference
from hunyuan_ext._backend import insisted, runs_native, slow_bfloat16
from hunyuan_ext._types import Triple


def causal_conv3d(
    x: Tensor,  # [B, C, T, H, W], NCDHW or channels_last_3d
    weight: Tensor,  # [N, C, kt, kh, kw]
    bias: Tensor | None = None,  # [N]
    *,
    stride: Triple = (1, 1, 1),
    residual: Tensor | None = None,  # shape of the output
    padded: bool = False,
) -> Tensor:  # [B, N, ceil(T / st), ceil(H / sh), ceil(W / sw)] for odd kh, kw
    """Convolution in which a frame sees only itself and earlier frames (paper section 4.1), plus `residual`.

    The border is replicated: kt - 1 copies of the first frame in front, kh // 2 rows and kw // 2 columns around;
    `padded` says that x already carries that (group_norm_silu writes it with `pad`). The output has x's memory
    format, or channels_last_3d where the weight has it. Native on CUDA for bfloat16 and float16 where x or the weight
    is channels-last; else the convolution itself is torch's (oneDNN: 80-94 % of a CPU's peak; cuDNN) and padding of
    channels-last volumes a native copy. On processors without a bfloat16 convolution the arithmetic is float32.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
    """
    return causal_conv3d_moments(x, weight, bias, stride=stride, residual=residual, padded=padded)[0]


def causal_conv3d_moments(
    x: Tensor,  # [B, C, T, H, W]
    weight: Tensor,  # [N, C, kt, kh, kw]
    bias: Tensor | None = None,  # [N]
    *,
    stride: Triple = (1, 1, 1),
    residual: Tensor | None = None,
    padded: bool = False,
    groups: int = 0,
) -> tuple[Tensor, Tensor | None]:
    """causal_conv3d, and what group_norm_silu with this many groups takes as `moments`.

    The moments, [B, chunks, groups, 3] in float32 (count, mean, squared distances from it), come with the CUDA kernel
    and save the norm a pass over the volume; elsewhere they are None.
    """
    _, channels, *volume = _check.tensor("x", x, "B C T H W")
    _, wanted, *kernel = _check.tensor("weight", weight, "N C kt kh kw")
    if wanted != channels:
        raise ValueError(f"weight: shape {list(weight.shape)} is for {wanted} channels, x has {channels}")
    if bias is not None:
        _check.like("bias", bias, "N", (weight.shape[0],), x)
    if padded and any(size < taps for size, taps in zip(volume, kernel, strict=True)):
        raise ValueError(f"x: padded volume {volume} is smaller than the kernel {kernel}")
    if not padded:
        x = pad_causal(x, (kernel[0] - 1, kernel[1] // 2, kernel[2] // 2))
    shape = [x.shape[0], weight.shape[0]]
    shape += [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    if residual is not None and list(residual.shape) != shape:
        raise ValueError(f"residual: shape {list(residual.shape)}, but the output has {shape}")
    if runs_native("causal_conv3d", x, weight, bias, residual) and _cuda.conv_fits(x, weight, bias, residual, stride):
        if torch.compiler.is_compiling():
            return torch.ops.hunyuan_ext.causal_conv3d(x, weight, bias, residual, stride), None
        return _cuda.causal_conv3d(x, weight, bias, residual, stride, groups)
    return _add(_convolve(x, weight, bias, stride), residual), None


def _add(out: Tensor, residual: Tensor | None) -> Tensor:
    if residual is None:
        return out
    if torch.is_grad_enabled() and (out.requires_grad or residual.requires_grad):
        return out + residual
    return out.add_(residual) if residual.dtype == out.dtype else out + residual


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple) -> Tensor:
    if not slow_bfloat16(x):
        if _conv_gradients.takes(x, weight, bias):
            return _conv_gradients.convolve(x, weight, bias, stride)
        return F.conv3d(x, weight, bias, stride)
    out = F.conv3d(x.float(), weight.float(), None if bias is None else bias.float(), stride)
    return out.to(x.dtype)


def pad_causal(x: Tensor, pad: Triple) -> Tensor:  # [B, C, T, H, W]
    """Replicate padding of a causal convolution: pad[0] frames in front, pad[1] rows and pad[2] columns around."""
    if not any(pad):
        return x
    # One element at a time, torch copies as fast; whole channels at a time, it does not.
    if not runs_native("pad_causal", x) or not (_native.is_channels_last(x) or insisted()):
        return reference.pad_causal(x, pad)
    if torch.compiler.is_compiling():
        return torch.ops.hunyuan_ext.pad_causal(x, pad)
    return _native.pad_causal(x, pad)
