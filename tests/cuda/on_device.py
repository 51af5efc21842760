"""CPU tensors that stand for those of a GPU of compute capability 9.0: what its host side does, on any machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from hunyuan_ext.core import native, plain

ARCHS = ("sm_80", "sm_89", "sm_90a")


@contextlib.contextmanager
def as_on_cuda(module: Any) -> Iterator[None]:
    """Inside, plain CPU tensors go the way of CUDA tensors, to the kernels of `module`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "module", module)
        patch.setattr(native, "cuda_archs", lambda: ARCHS)
        patch.setattr(native, "cuda_capability", lambda index: (9, 0))
        patch.setattr(plain, "device_type", lambda x: "cuda")
        native.forget()
        try:
            yield
        finally:
            native.forget()
