"""Calls of the native kernels: make inputs contiguous where a kernel needs it, allocate the output, run.

Only for tensors that `_backend.runs_native` accepted. One function a kernel; shared by the eager ops and by the
torch.library implementations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_ext import _backend

_C = _backend.module


def rows(x: Tensor) -> Tensor:
    """x itself when its last dimension is contiguous, else a contiguous copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def layer_norm_modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _C.layer_norm_modulate(rows(x), rows(shift), rows(scale), out, eps, torch.get_num_threads())
    return out


def gate_residual(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _C.gate_residual(rows(x), rows(y), rows(gate), out, torch.get_num_threads())
    return out
