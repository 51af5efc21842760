"""Causal 3D convolution of the VAE."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext import reference
from hunyuan_ext.conv import autograd, kernels
from hunyuan_ext.core import check, plain
from hunyuan_ext.core.dispatch import DESCRIPTIONS, Op, Plan, around_torch, choice, takes
from hunyuan_ext.core.native import insisted, slow_bfloat16
from hunyuan_ext.core.operands import is_channels_last
from hunyuan_ext.core.types import Triple


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
    _check_weight(x, weight, bias)
    if not padded:
        kernel = weight.shape[2:]
        x = pad_causal(x, (kernel[0] - 1, kernel[1] // 2, kernel[2] // 2))
    stride = tuple(stride)  # type: ignore[assignment]
    run = CAUSAL_CONV.plan((x, weight, bias, residual), (stride, check.layout(x), check.layout(weight)))
    return run(x, weight, bias, residual, stride, groups)


def pad_causal(x: Tensor, pad: Triple) -> Tensor:  # [B, C, T, H, W]
    """Replicate padding of a causal convolution: pad[0] frames in front, pad[1] rows and pad[2] columns around."""
    if not any(pad):
        return x
    return PAD_CAUSAL.plan((x,), (check.layout(x),))(x, pad)


def _check_weight(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    channels = check.tensor("x", x, "B C T H W")[1]
    wanted = check.tensor("weight", weight, "N C kt kh kw")[1]
    if wanted != channels:
        raise ValueError(f"weight: shape {list(weight.shape)} is for {wanted} channels, x has {channels}")
    if bias is not None:
        check.like("bias", bias, "N", (weight.shape[0],), x)


def plan_conv(tensors: tuple, constants: tuple) -> Plan:
    """The plan of a convolution of x padded already, [B, C, T, H, W]."""
    (x, weight, bias, residual), stride = tensors, constants[0]
    volume, kernel = list(x.shape[2:]), list(weight.shape[2:])
    if any(size < taps for size, taps in zip(volume, kernel, strict=True)):
        raise ValueError(f"x: padded volume {volume} is smaller than the kernel {kernel}")
    shape = kernels.output_shape(x, weight, stride)
    if residual is not None and list(residual.shape) != shape:
        raise ValueError(f"residual: shape {list(residual.shape)}, but the output has {shape}")
    if takes("causal_conv3d", x, weight, bias, residual) and kernels.conv_fits(x, weight, bias, residual, stride):
        if torch.compiler.is_compiling():
            return Plan(_library_conv, "hunyuan_ext::causal_conv3d")
        reason = choice("causal_conv3d", plain.device_type(x), x.dtype, x.device.index).reason
        return Plan(kernels.causal_conv3d, "causal_conv3d", reason)
    if slow_bfloat16(x):
        return Plan(_wide_conv, "torch", "in float32: this processor has no bfloat16 matrix unit")
    return Plan(_train_conv if autograd.takes(x, weight, bias) else _torch_conv, "torch")


def _library_conv(x, weight, bias, residual, stride, _):
    return torch.ops.hunyuan_ext.causal_conv3d(x, weight, bias, residual, stride), None


def _torch_conv(x, weight, bias, residual, stride, _):
    return _add(F.conv3d(x, weight, bias, stride), residual), None


def _train_conv(x, weight, bias, residual, stride, _):
    return _add(autograd.convolve(x, weight, bias, stride), residual), None


def _wide_conv(x, weight, bias, residual, stride, _):
    out = F.conv3d(x.float(), weight.float(), None if bias is None else bias.float(), stride)
    return _add(out.to(x.dtype), residual), None


def _add(out: Tensor, residual: Tensor | None) -> Tensor:
    if residual is None:
        return out
    if torch.is_grad_enabled() and (out.requires_grad or residual.requires_grad):
        return out + residual
    return out.add_(residual) if residual.dtype == out.dtype else out + residual


def plan_pad(tensors: tuple, constants: tuple) -> Plan:
    (x,) = tensors
    # One element at a time, torch copies as fast; whole channels at a time, it does not.
    if not takes("pad_causal", x) or not (is_channels_last(x) or insisted()):
        return Plan(reference.pad_causal, "torch")
    if torch.compiler.is_compiling():
        return Plan(torch.ops.hunyuan_ext.pad_causal, "hunyuan_ext::pad_causal")
    return Plan(kernels.pad_causal, "pad_causal", choice("pad_causal", plain.device_type(x), x.dtype).reason)


def describe_conv(device: str, dtype: torch.dtype) -> dict:
    picked = choice("causal_conv3d", device, dtype)
    if picked.native:
        return {"implementation": "native", "reason": f"channels-last, {picked.reason}; torch's conv3d for NCDHW"}
    return around_torch("pad_causal", "replicate padding", "torch's conv3d", device, dtype)


CAUSAL_CONV, PAD_CAUSAL = Op(plan_conv), Op(plan_pad)
DESCRIPTIONS["causal_conv3d"] = describe_conv
