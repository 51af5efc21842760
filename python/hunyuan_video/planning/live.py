"""Bytes that are alive while code runs on the meta device: the code itself, its sizes, and nothing computed."""

from __future__ import annotations

import contextlib
import inspect
import sys
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hunyuan_ext.core.rehearsal import Machine, rehearsing

BLOCK = 512  # bytes to which torch's CUDA allocator rounds


class LiveBytes(TorchDispatchMode):
    """Sum of the storages made inside that are alive: `now`, and `most`; `hold` adds what was there before.

    Tensors that code makes on the CPU by name are made on the meta device, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.alive: dict[int, int] = {}
        self.ignored: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first call imports all of torch._dynamo, seconds

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """Leaves out weights, which a plan counts by themselves."""
        self.ignored.update(tensor.untyped_storage()._cdata for tensor in tensors)

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Counts tensors that were made outside."""
        for tensor in tensors:
            self._add(tensor)

    def spike(self, extra: int) -> None:
        """Something took so many bytes for a moment."""
        self.most = max(self.most, self.now + extra)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": torch.device("meta")}
        out = func(*args, **kwargs)
        for entry in tree_leaves(out):
            if isinstance(entry, Tensor):
                self._add(entry)
        return out

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.alive or key in self.ignored:
            return
        self.alive[key] = -(-storage.nbytes() // BLOCK) * BLOCK
        self.now += self.alive[key]
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self.alive.pop(key)


@contextlib.contextmanager
def without_dynamo() -> Iterator[None]:
    """Lets torch's functions for the meta device, which are Python, run without importing torch._dynamo: seconds.

    Each is wrapped in a function that imports it at its first call, to be told to leave it alone; here it is that.
    """
    functions = [] if "torch._dynamo" in sys.modules else _wrapped_functions()
    for function in functions:
        setattr(function, _DISABLED, function)
    try:
        yield
    finally:
        for function in functions:
            if getattr(function, _DISABLED, None) is function:
                delattr(function, _DISABLED)


_DISABLED = "__dynamo_disable"  # where torch._compile keeps what it made of a function


def _wrapped_functions() -> list[Any]:
    """The functions inside torch._compile's wrappers that torch's table of such functions leads to."""
    import torch._refs
    from torch._decomp import global_decomposition_table

    left = [value for table in global_decomposition_table.values() for value in table.values()]
    left += vars(torch._refs).values()
    seen: set[int] = set()
    found = []
    while left:
        value = left.pop()
        if not inspect.isfunction(value) or id(value) in seen:
            continue
        seen.add(id(value))
        inside = [cell.cell_contents for cell in value.__closure__ or () if _is_set(cell)]
        if value.__code__.co_filename.endswith("_compile.py"):
            found += [inner for inner in inside if inspect.isfunction(inner) and not hasattr(inner, _DISABLED)]
        left += inside
    return found


def _is_set(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


@contextlib.contextmanager
def counted(machine: Machine, *models: nn.Module) -> Iterator[LiveBytes]:
    """A rehearsal for a machine, with the meta device as default; the models' weights do not count."""
    live = LiveBytes()
    for model in models:
        live.ignore([*model.parameters(), *model.buffers()])
    with without_dynamo(), torch.device("meta"), rehearsing(machine), live:
        yield live


def tensor_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers, each rounded as the allocator does."""
    return sum(-(-tensor.nbytes // BLOCK) * BLOCK for tensor in (*model.parameters(), *model.buffers()))
