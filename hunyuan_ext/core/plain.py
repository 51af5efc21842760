"""True if a call may go past torch's dispatcher: ordinary tensors that nothing watches, and autocast.

Everything here can also be asked while torch.compile or torch.export traces.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

Function = TypeVar("Function", bound=Callable)

# Private, but what torch's own wrappers ask; each costs 0.1 us.
dispatch_modes = torch._C._len_torch_dispatch_stack
transform = torch._C._functorch.peek_interpreter_stack
any_autocast = torch._C._is_any_autocast_enabled


# .machine: what this thread rehearses for (rehearsal.py), if it does.
current = threading.local()


def rehearsed() -> Any | None:
    """The machine that this thread rehearses for, or None: its tensors are real."""
    return getattr(current, "machine", None)


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
    """True if autocast is in effect on a device type; never on those that know no autocast, such as meta."""
    return _knows_autocast(device) and torch.is_autocast_enabled(device)


def autocast_state() -> tuple:
    """State of autocast on the devices that have kernels: a value to compare."""
    return tuple((torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda"))


def device_type(x: Tensor) -> str:
    """The kind of device whose kernels x would go to: "cpu", "cuda", "meta", ..."""
    return x.device.type


def is_plain(*tensors: Tensor | None) -> bool:
    """True if these are ordinary tensors of one device, and nothing watches what is done with them.

    Not plain are subclasses, and any tensor under a torch.func transform or a dispatch mode (fake tensors, FLOP
    counters), except in a rehearsal. While a compiler traces, tensors stand for plain ones.
    """
    compiling = torch.compiler.is_compiling()
    if not compiling and (dispatch_modes() or transform() is not None):
        return rehearsed() is not None
    device = None
    for tensor in tensors:
        if tensor is None:
            continue
        if device is None:
            device = tensor.device
        if tensor.device != device:
            return False
        if not compiling and type(tensor) is not Tensor and type(tensor) is not Parameter:
            return False
    return True


def wants_gradient(*tensors: Tensor | None) -> bool:
    """True if autograd follows what is done with these tensors."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def may_bypass(x: Tensor, *others: Tensor | None) -> bool:
    """True if a call may go past torch's dispatcher: plain tensors, no gradient to record, no autocast."""
    return not autocast_enabled(device_type(x)) and is_plain(x, *others) and not wants_gradient(x, *others)
