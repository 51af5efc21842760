"""Memory that weights need, counted from the headers of their files, and what is free."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from hunyuan_video.checkpoints.validate import FP8_DTYPES
from hunyuan_video.planning.budget import host_available


def weight_bytes(infos: Iterable[Any], dtype: torch.dtype | None) -> int:
    """Bytes of tensors in a dtype (None: as stored); FP8 and whole numbers stay what they are."""
    kept = (*FP8_DTYPES, torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool)
    return sum(info.count * (info.dtype if info.dtype in kept else dtype or info.dtype).itemsize for info in infos)


def free_bytes() -> int | None:
    """Free memory of the host, also within control groups and `ulimit -v`. None where nothing is known."""
    limits = [host_available()]
    addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
    if addresses != resource.RLIM_INFINITY:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limits.append(max(addresses - used, 0))
    return min((limit for limit in limits if limit is not None), default=None)
