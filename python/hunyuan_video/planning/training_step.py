"""Peak memory of a training step: the very step runs on torch's fake tensors, which have sizes and no values.

Fake tensors live on the CPU here (torch without CUDA has no others). For a GPU the norms are kept in float32, as
autocast does there; workspaces inside of kernels are not counted.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hunyuan_video.models.pretrained import SkipInit
from hunyuan_video.models.transformer.embeddings import kept_frequencies
from hunyuan_video.models.transformer.rope import cached_rope_table
from hunyuan_video.planning.live import LiveBytes

NORMS = ("layer_norm", "group_norm", "rms_norm")  # of torch, to which those of nn lead


@dataclass(frozen=True)
class StepBytes:
    """Bytes of a run. standing: alive between two steps (weights, optimizer, average); peak: the most within one."""

    standing: int
    peak: int

    @property
    def passing(self) -> int:
        """Activations and gradients at the largest moment."""
        return self.peak - self.standing


def rehearsed_steps(make: Callable[[], Callable[[int], object]], device: str, numbers: tuple[int, ...]) -> StepBytes:
    """Runs steps of a training without values. make: builds everything the run holds, and returns its step.

    device: "cpu" or "cuda", whose autocast is counted. numbers: of the steps; of the first, which makes the optimizer's
    state, nothing but that is counted. Random generators are left as they were.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    live = _Values()
    _forget()
    try:
        with contextlib.ExitStack() as inside:
            inside.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            inside.enter_context(live)
            inside.enter_context(_new_tensors_on_conversion())
            with SkipInit():
                step = make()
            if device == "cuda":
                inside.enter_context(_wide_norms())
            step(numbers[0])
            standing = live.most = live.now
            for number in numbers[1:]:
                step(number)
            return StepBytes(standing, live.most)
    finally:
        _forget()
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def _forget() -> None:
    """Tables that models keep: those with values must not come in, those without not get out."""
    cached_rope_table.cache_clear()
    kept_frequencies.cache_clear()


class _Values(LiveBytes):
    """Counts fake tensors; a value that code asks for is 1."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else args[0].dtype is torch.bool or 1
        if func is torch.ops.aten.equal.default:
            return True
        out = func(*args, **(kwargs or {}))
        for entry in tree_leaves(out):
            if isinstance(entry, Tensor):
                self._add(entry)
        return out


@contextlib.contextmanager
def _new_tensors_on_conversion() -> Iterator[None]:
    """`Module.to` puts new parameters in the place of old ones: torch would swap the two, which fake ones refuse."""
    before = nn.Module._apply
    nn.Module._apply = _converted  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._apply = before  # type: ignore[method-assign]


def _converted(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    for child in self.children() if recurse else ():
        _converted(child, fn)
    for name, parameter in self._parameters.items():
        if parameter is not None and (made := fn(parameter.detach())).dtype != parameter.dtype:
            self._parameters[name] = nn.Parameter(made, parameter.requires_grad)
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = fn(buffer)
    return self


@contextlib.contextmanager
def _wide_norms() -> Iterator[None]:
    """Norms as CUDA's autocast computes them: from and to float32. Also where blocks run again in a backward pass,
    which a mode of torch's functions does not see.
    """
    before = {name: getattr(torch, name) for name in NORMS}
    for name, norm in before.items():
        setattr(torch, name, partial(_wide_norm, norm))
    try:
        yield
    finally:
        for name, norm in before.items():
            setattr(torch, name, norm)


def _wide_norm(norm: Callable[..., Tensor], *args: Any, **options: Any) -> Tensor:
    if not torch.is_autocast_enabled("cpu"):
        return norm(*args, **options)
    with torch.autocast("cpu", enabled=False):
        return norm(*map(_wide, args), **{name: _wide(value) for name, value in options.items()})


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
