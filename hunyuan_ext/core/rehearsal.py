"""Rehearsals: calls on tensors without memory that take the way of real ones, to count what they allocate.

Inside `rehearsing(machine)` this thread's meta tensors count as tensors of that machine's device: the kernels that
would run there are chosen, their results and workspaces are allocated, and nothing is computed. Other threads go on as
before: what is exchanged here looks at which thread asks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hunyuan_ext.core import native, plain

ARCHS = ("sm_80", "sm_89", "sm_90a")  # that a complete build has
# What the native module is asked about the processor, in a rehearsal too.
QUESTIONS = {"has_linear_unit", "has_attention_unit", "cpu_is_intel", "isa_in_use", "isa_supported", "build_facts"}


@dataclass(frozen=True)
class Machine:
    """A device to rehearse for: "cpu" (this one), or "cuda" with a compute capability, its kernels built."""

    device: str = "cpu"
    capability: tuple[int, int] | None = None


class _Silent:
    """The native module as a rehearsing thread sees it: kernels do nothing, sizing functions answer."""

    def __init__(self, real: Any):
        self.real = real

    def __getattr__(self, name: str) -> Any:
        if plain.rehearsed() is None or (name in QUESTIONS and self.real is not None):
            return getattr(self.real, name)
        return _SIZES.get(name, _nothing)


def _nothing(*args: Any, **kwargs: Any) -> bool:
    return False


def _fp8_workspace(batch: int, queries: int, keys: int, heads: int, dim: int) -> int:
    """Bytes of codes and scales of q, k and v, as csrc/attention/cuda sizes them."""
    rows, blocks = batch * heads, -(-keys // 128)
    return rows * (2 * queries * dim + dim * blocks * 128 + 8 * queries + 8 * blocks + 4 * dim + 4 * blocks * dim)


def _norm_workspace(x: Tensor, groups: int, moments: bool) -> int:
    return 1 << 20  # partial sums: under a megabyte at every size


def _moment_chunks(x: Tensor, weight: Tensor, stride: Any) -> int:
    return 1024  # sums of a chunk of the output: 12 bytes a group each


_SIZES = {
    "attention_fp8_workspace": _fp8_workspace,
    "group_norm_silu_workspace": _norm_workspace,
    "causal_conv3d_moment_chunks": _moment_chunks,
}
_lock = threading.Lock()
_running = 0
_before: dict[str, Any] = {}


@contextlib.contextmanager
def rehearsing(machine: Machine) -> Iterator[None]:
    """This thread rehearses for a machine; its tensors are on the meta device, without gradients."""
    before = plain.rehearsed()
    _enter()
    plain.current.machine = machine
    try:
        with torch.no_grad():
            yield
    finally:
        plain.current.machine = before
        _leave()


def _enter() -> None:
    global _running
    with _lock:
        _running += 1
        if _running > 1:
            return
        _before.update(module=native.module, archs=native.cuda_archs, capability=native.cuda_capability)
        _before["device_type"] = plain.device_type
        native.module = _Silent(native.module)
        native.cuda_archs = _archs
        native.cuda_capability = _capability
        plain.device_type = _device_type


def _leave() -> None:
    global _running
    with _lock:
        _running -= 1
        if _running == 0:
            native.module, native.cuda_archs = _before["module"], _before["archs"]
            native.cuda_capability, plain.device_type = _before["capability"], _before["device_type"]


def _archs() -> tuple[str, ...]:
    return _before["archs"]() if plain.rehearsed() is None else ARCHS


def _capability(index: int | None) -> tuple[int, int] | None:
    machine = plain.rehearsed()
    return _before["capability"](index) if machine is None else machine.capability


def _device_type(x: Tensor) -> str:
    machine = plain.rehearsed()
    return _before["device_type"](x) if machine is None else machine.device
