"""Shared code of the peers. Off a GPU, as in a dry run, nothing is compiled and no backend is forced."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

FP8 = torch.float8_e4m3fn
FP8_MAX = 448.0
EPS = 1e-6


def compiled(function: Callable[..., Any], like: Tensor) -> Callable[..., Any]:
    return torch.compile(function) if like.is_cuda else function


def backend(choice: SDPBackend, like: Tensor) -> contextlib.AbstractContextManager[Any]:
    return sdpa_kernel(choice) if like.is_cuda else contextlib.nullcontext()
