"""The native module hunyuan_ext._C: loading, instruction sets, architectures, and the switches of the environment.

HUNYUAN_EXT_BACKEND = auto (default) | reference | native; HUNYUAN_EXT_ISA = scalar | avx2 | avx512 caps the
instruction set of the CPU kernels and selects them even where torch would be at least as fast.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from hunyuan_ext.core import interface, plain
from hunyuan_ext.core.plain import constant_while_tracing
from hunyuan_ext.core.types import BFLOAT

MODES = ("auto", "reference", "native")
LEVELS = ("scalar", "avx2", "avx512")


def from_environment(name: str, allowed: tuple[str, ...]) -> str | None:
    """The value of a switch; ValueError for one that does not exist."""
    value = os.environ.get(name)
    if value is not None and value not in allowed:
        raise ValueError(f"{name}={value}: use one of {', '.join(allowed)}")
    return value


def load() -> tuple[Any, str]:
    """The native module, connected to torch's tensors; or None and the reason."""
    try:
        extension = importlib.import_module("hunyuan_ext._C")
    except ModuleNotFoundError:
        return None, "hunyuan_ext._C is not built; `pip install .` or `python setup.py build_ext --inplace` builds it"
    except ImportError as error:
        return None, f"hunyuan_ext._C does not load: {error}"
    wanted = interface.expected()
    if wanted is not None and getattr(extension, "interface", None) != wanted:
        reason = f"{extension.__file__} was built from other sources; build it again"
        warnings.warn(f"no kernel of hunyuan_ext runs, torch does its work: {reason}", stacklevel=2)
        return None, reason
    probe = torch.empty_strided((2, 3), (1, 2), dtype=BFLOAT, device="cpu")
    extension.use_exchange_api(getattr(torch.Tensor, "__dlpack_c_exchange_api__", None))
    if extension.describe(probe) != ((2, 3), (1, 2), 1, -1, probe.data_ptr()):
        extension.use_exchange_api(None)  # a torch whose structs differ: read tensors through their attributes
    extension.use_tensor_types(Tensor, Parameter)
    return extension, ""


mode: str = from_environment("HUNYUAN_EXT_BACKEND", MODES) or "auto"
forced_isa: str | None = from_environment("HUNYUAN_EXT_ISA", LEVELS)
module, missing = load()
memos: list[dict] = []  # what was decided under the present switches; `forget` empties them

if module is not None and forced_isa is not None:
    module.set_isa(LEVELS.index(forced_isa))


def forget() -> None:
    """Drops every remembered decision: for a change of the switches above."""
    for memo in memos:
        memo.clear()


@contextlib.contextmanager
def forced(new_mode: str | None = None, new_isa: str | None = None) -> Iterator[None]:
    """For tests: another backend mode or instruction set inside a `with` block (not thread-safe)."""
    global mode, forced_isa
    before = mode, forced_isa
    mode = new_mode or mode
    if new_isa is not None:
        if module is None:
            raise RuntimeError(missing)
        module.set_isa(LEVELS.index(new_isa))
        forced_isa = new_isa
    forget()
    try:
        yield
    finally:
        mode, forced_isa = before
        if module is not None:
            module.set_isa(LEVELS.index(forced_isa) if forced_isa else module.isa_supported())
        forget()


def insisted() -> bool:
    """True if kernels run even where torch is at least as fast."""
    return mode == "native"


def isa() -> str:
    """The instruction set in use: "scalar", "avx2" or "avx512"."""
    return LEVELS[module.isa_in_use()] if module is not None else "scalar"


def cuda_archs() -> tuple[str, ...]:
    """The architectures whose machine code is in the native module, such as "sm_90a"."""
    archs = module.build_facts()["cuda_archs"] if module is not None else ""
    return tuple(archs.split(",")) if archs else ()


def cuda_capability(index: int | None) -> tuple[int, int] | None:
    """Compute capability of a device (None: the current one); None where there is none."""
    return torch.cuda.get_device_capability(index) if torch.cuda.is_available() else None


def runs_on(arch: str, major: int, minor: int) -> bool:
    """True if machine code for "sm_80" runs on a device: same major, minor not above; "sm_90a" on 9.0 only."""
    number = arch.removeprefix("sm_")
    if number.endswith("a"):
        return number[:-1] == f"{major}{minor}"
    return int(number[:-1]) == major and int(number[-1]) <= minor


@constant_while_tracing
def bfloat16_matmul() -> bool:
    """True if the processor's matrix units take bfloat16."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() if torch.backends.mkldnn.is_available() else False


def slow_bfloat16(x: Tensor) -> bool:
    """True if x is bfloat16 on a processor whose matrix units cannot take it: float32 arithmetic is then faster."""
    return x.dtype == BFLOAT and plain.device_type(x) == "cpu" and not bfloat16_matmul()
