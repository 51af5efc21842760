"""Kernels of the norms, the gated residual and the GELU: their calls, and their ops of torch.library."""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_ext import reference
from hunyuan_ext.core import native, plain
from hunyuan_ext.core.dispatch import kernel, takes
from hunyuan_ext.core.library import promoted, register
from hunyuan_ext.core.operands import affine_fits, as_matrix, memory_format, padded_shape, rows, volume_fits
from hunyuan_ext.core.types import BFLOAT, FLOAT, HALF, Triple
from hunyuan_ext.norm import autograd

for name in ("layer_norm_modulate", "gate_residual", "group_norm_silu"):
    kernel(name, cpu=(FLOAT, BFLOAT), cuda=(FLOAT, BFLOAT, HALF))
kernel("gelu", cpu=(FLOAT, BFLOAT))


def layer_norm_modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:  # [B, S, C], [B, C], [B, C]
    """For tensors that are contiguous in C."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    native.module.layer_norm_modulate(x, shift, scale, out, eps, torch.get_num_threads())
    return out


def gate_residual(  # [B, S, C], [B, S, C], [B, C]
    x: Tensor, y: Tensor, gate: Tensor, out: Tensor | None = None
) -> Tensor:
    """For tensors that are contiguous in C, and a contiguous `out`, which may be x or y."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
    native.module.gate_residual(x, y, gate, out, torch.get_num_threads())
    return out


def gelu_(x: Tensor) -> Tensor:  # [..., N], contiguous
    """GELU in its tanh form, written over x."""
    rows = x if x.ndim > 1 else x[None]
    native.module.gelu(rows, None, rows, torch.get_num_threads())
    return x


def split_gelu(x: Tensor, split: int) -> tuple[Tensor, Tensor]:  # [..., C], contiguous in C
    """x[..., :split] as a view, gelu(x[..., split:]) as a tensor of its own."""
    head, tail = x.tensor_split((split,), dim=-1)
    out = torch.empty_like(tail, memory_format=torch.contiguous_format)
    evenly_apart = x.ndim > 1 and x.is_contiguous()
    rows = (tail, out) if evenly_apart else (as_matrix(tail), as_matrix(out))
    native.module.gelu(rows[0], None, rows[1], torch.get_num_threads())
    return head, out


def group_norm_silu(
    x: Tensor,  # [B, C, T, H, W]
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    groups: int,
    eps: float,
    silu: bool,
    pad: Triple,
    moments: Tensor | None = None,  # [B, chunks, groups, 3], of causal_conv3d
) -> Tensor:  # [B, C, T + pad[0], H + 2 pad[1], W + 2 pad[2]]
    return GroupNorm(x, pad).run(x, weight, bias, groups, eps, silu, pad, moments)


class GroupNorm:
    """group_norm_silu for volumes like those of one plan: a call allocates and runs."""

    def __init__(self, x: Tensor, pad: Triple):
        self.layout, self.shape, self.on_cuda = memory_format(x), padded_shape(x, pad), plain.device_type(x) == "cuda"

    def run(self, x, weight, bias, groups, eps, silu, pad, moments):
        out = torch.empty(self.shape, dtype=x.dtype, device=x.device, memory_format=self.layout)
        x, workspace = x.contiguous(memory_format=self.layout), None
        if self.on_cuda:
            x = x if x.data_ptr() % 16 == 0 else x.clone(memory_format=self.layout)
            size = native.module.group_norm_silu_workspace(x, groups, moments is not None)
            workspace = torch.empty(size, dtype=torch.uint8, device=x.device)
        threads = torch.get_num_threads()
        native.module.group_norm_silu(x, weight, bias, out, groups, eps, silu, pad, moments, workspace, threads)
        return out


def _layer_norm_modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    if takes("layer_norm_modulate", x, shift, scale) and x.dtype == shift.dtype == scale.dtype:
        return layer_norm_modulate(rows(x), rows(shift), rows(scale), eps)
    return reference.layer_norm_modulate(x, shift, scale, eps=eps).contiguous()


def _layer_norm_modulate_fake(x, shift, scale, eps):
    return torch.empty(x.shape, dtype=promoted(x, shift, scale), device=x.device)


register(
    "layer_norm_modulate(Tensor x, Tensor shift, Tensor scale, float eps) -> Tensor",
    _layer_norm_modulate,
    _layer_norm_modulate_fake,
    autograd.layer_norm_modulate,
)


def _gate_residual(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    if takes("gate_residual", x, y, gate) and x.dtype == y.dtype == gate.dtype:
        return gate_residual(rows(x), rows(y), rows(gate))
    return reference.gate_residual(x, y, gate).contiguous()


def _gate_residual_fake(x, y, gate):
    return torch.empty(x.shape, dtype=promoted(x, y, gate), device=x.device)


register(
    "gate_residual(Tensor x, Tensor y, Tensor gate) -> Tensor",
    _gate_residual,
    _gate_residual_fake,
    autograd.gate_residual,
)


def _group_norm_silu(x, weight, bias, groups, eps, silu, pad):
    if takes("group_norm_silu", x, weight, bias) and affine_fits(x, weight, bias) and volume_fits(x):
        return group_norm_silu(x, weight, bias, groups, eps, silu, tuple(pad))
    out = reference.group_norm_silu(x, weight, bias, groups=groups, eps=eps, silu=silu, pad=tuple(pad))
    return out.contiguous(memory_format=memory_format(x))


def _group_norm_silu_fake(x, weight, bias, groups, eps, silu, pad):
    shape = padded_shape(x, tuple(pad))
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


register(
    "group_norm_silu(Tensor x, Tensor? weight, Tensor? bias, int groups, float eps, bool silu, SymInt[] pad) -> Tensor",
    _group_norm_silu,
    _group_norm_silu_fake,
    autograd.group_norm_silu,
)
