"""True where a module does what its class says and no more, so that a faster path may take its weights past its call.

Exact, tiled, folded, streamed, packed and kernel paths all ask here. A module that is not plain is called as it is, at
every size, or refused by name where that cannot be.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.nn.modules import module as torch_module

PLAIN_TENSORS = (Tensor, nn.Parameter, nn.Buffer, type(None), FakeTensor)  # the last stands for one of the others


def is_plain(module: nn.Module, *kinds: type) -> bool:
    """True for a module of just one of these classes, without hooks, wrappers and replaced methods, whose weights are
    ordinary tensors.

    Not plain are subclasses, parametrizations (they make one), layers of PEFT, modules that `compile()` or `forward = `
    changed, and weights that are a subclass of Tensor. Costs about a microsecond.
    """
    return type(module) in kinds and not _changed(module)


def why_not_plain(module: nn.Module, *kinds: type) -> str:
    """Reason for `is_plain` to be False, in a few words; "" where it is True."""
    if type(module) not in kinds:
        return f"is a {type(module).__name__}, not a {' or '.join(kind.__name__ for kind in kinds)}"
    return _changed(module)


def first_unlike(network: nn.Module, *kinds: type) -> str:
    """The first module of a network that is not plain, with the reason: "decoder.conv_in has a hook"; "" if none."""
    for name, module in network.named_modules():
        if reason := why_not_plain(module, *kinds):
            return f"{name or type(network).__name__} {reason}"
    return ""


def _changed(module: nn.Module) -> str:
    entries = module.__dict__
    if (
        entries["_forward_hooks"]
        or entries["_forward_pre_hooks"]
        or entries["_backward_hooks"]
        or entries["_backward_pre_hooks"]
    ):
        return "has hooks"
    if "forward" in entries:
        return "has a forward of its own"
    if entries.get("_compiled_call_impl") is not None:
        return "is compiled"
    for tensors in (entries["_parameters"], entries["_buffers"]):
        for tensor in tensors.values():
            if type(tensor) not in PLAIN_TENSORS:
                return f"has weights of type {type(tensor).__name__}"
    if not torch.compiler.is_compiling() and torch_module._has_any_global_hook():
        return "is called with hooks on all modules"
    return ""
