"""Argument checks shared by the ops: one clear line naming the argument, both numbers and what is needed."""

from __future__ import annotations

import torch
from torch import Tensor


def tensor(name: str, value: Tensor, layout: str) -> tuple[int, ...]:
    """The shape of a floating-point tensor whose dimensions are named by `layout`, such as "B S C"."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: a torch.Tensor [{layout.replace(' ', ', ')}] is needed, got {described(value)}")
    if not value.dtype.is_floating_point:
        raise TypeError(f"{name}: a floating-point tensor is needed, got {value.dtype}")
    if value.ndim != len(layout.split()):
        raise ValueError(
            f"{name}: shape {list(value.shape)} has {value.ndim} dimensions, [{layout.replace(' ', ', ')}] is needed"
        )
    return value.shape


def like(name: str, value: Tensor, layout: str, shape: tuple[int, ...], x: Tensor) -> None:
    """A tensor of exactly this shape on the device of the op's first argument."""
    actual = tensor(name, value, layout)
    if tuple(actual) != tuple(shape):
        raise ValueError(f"{name}: shape {list(actual)}, but [{layout.replace(' ', ', ')}] = {list(shape)} is needed")
    if value.device != x.device:
        raise ValueError(f"{name}: is on {value.device}, the other arguments on {x.device}; move it there")


def described(value: object) -> str:
    """Description of an argument for an error message."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__ + (
        " (hunyuan_ext.dlpack has the ops for arrays)" if hasattr(value, "__dlpack__") else ""
    )


def one_of(name: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(map(repr, allowed))}")


def positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name}: must be positive, got {value}")


def lengths(kv_len: Tensor, keys: int) -> list[int]:
    """The values of kv_len; ValueError for one that is not possible."""
    values = kv_len.tolist()
    for length in values:
        if not 1 <= length <= keys:
            raise ValueError(f"kv_len: {length} valid tokens, but 1 to {keys} are possible")
    return values


def layout(x: object) -> tuple[int, ...] | None:
    """Strides as torch has them, for plans that look at those of dimensions of one element; a signature does not."""
    return None if torch.compiler.is_compiling() or not isinstance(x, Tensor) else x.stride()
