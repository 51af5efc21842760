"""Causal 3D convolution of the VAE."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext import _check, _native, reference
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
    format. The convolution itself is torch's (oneDNN, cuDNN), 80-94 % of a CPU's peak; padding of channels-last
    volumes is a native copy. On processors without a bfloat16 convolution the arithmetic is float32.

    Raises ValueError or TypeError, naming the argument, for a wrong shape, dtype or device.
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
    out = _convolve(x, weight, bias, stride)
    if residual is None:
        return out
    if residual.shape != out.shape:
        raise ValueError(f"residual: shape {list(residual.shape)}, but the output has {list(out.shape)}")
    if torch.is_grad_enabled() and (out.requires_grad or residual.requires_grad):
        return out + residual
    return out.add_(residual) if residual.dtype == out.dtype else out + residual


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple) -> Tensor:
    if not slow_bfloat16(x):
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
