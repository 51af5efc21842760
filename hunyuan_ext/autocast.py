"""Whether autocast is in effect, also asked while torch.compile or torch.export traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

Function = TypeVar("Function", bound=Callable)


def constant_while_tracing(function: Function) -> Function:
    """As torch.compiler.assume_constant_result: evaluated while tracing, its result is a constant of the graph.

    That call would import all of torch._dynamo (a second) with every `import hunyuan_ext`.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant_while_tracing  # torch 2.11 cannot trace it
def _knows_autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device)


def autocast_enabled(device: str) -> bool:
    """Whether autocast is in effect on a device type; never on those that know no autocast, such as meta."""
    return _knows_autocast(device) and torch.is_autocast_enabled(device)
