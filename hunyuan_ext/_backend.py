"""Finds the native module and decides, call by call, whether a native kernel may run.

HUNYUAN_EXT_BACKEND = auto (default) | reference | native; HUNYUAN_EXT_ISA = scalar | avx2 | avx512 caps the
instruction set of the CPU kernels and selects them even where torch would be at least as fast.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from hunyuan_ext import interface
from hunyuan_ext.autocast import autocast_enabled, constant_while_tracing

MODES = ("auto", "reference", "native")
LEVELS = ("scalar", "avx2", "avx512")

FLOAT, BFLOAT, HALF = torch.float32, torch.bfloat16, torch.float16
# Element types of each native kernel by device; everything else is composed from torch operations.
KERNELS: dict[str, dict[str, tuple[torch.dtype, ...]]] = {
    "layer_norm_modulate": {"cpu": (FLOAT, BFLOAT), "cuda": (FLOAT, BFLOAT, HALF)},
    "gate_residual": {"cpu": (FLOAT, BFLOAT), "cuda": (FLOAT, BFLOAT, HALF)},
    "group_norm_silu": {"cpu": (FLOAT, BFLOAT), "cuda": (FLOAT, BFLOAT, HALF)},
    "pad_causal": {"cpu": (FLOAT, BFLOAT, HALF), "cuda": (FLOAT, BFLOAT, HALF)},
    "causal_conv3d": {"cuda": (BFLOAT, HALF)},
    "linear_fp8": {"cuda": (BFLOAT,)},
    "channel_moments": {"cpu": (FLOAT, BFLOAT)},
    "qk_norm_rope": {"cpu": (FLOAT, BFLOAT), "cuda": (FLOAT, BFLOAT, HALF)},
    "attention": {"cuda": (BFLOAT,)},
    "attention_fp8": {"cuda": (BFLOAT,)},
    "rope_attention": {"cpu": (FLOAT, BFLOAT)},
    "linear": {"cpu": (BFLOAT,)},
    "int8_linear": {"cpu": (FLOAT, BFLOAT)},
    "template_scale": {"cpu": (FLOAT, BFLOAT), "cuda": (FLOAT, BFLOAT, HALF)},
    "decode_fp8": {"cpu": (torch.float8_e4m3fn,)},
}
# Machine code of the CUDA kernels, by architecture: what does the work there. Kernels that are not listed read and
# write memory with ordinary instructions and exist for every architecture that is built.
TENSOR_CORES: dict[str, dict[str, str]] = {
    "attention": {"sm_80": "mma.sync", "sm_89": "mma.sync", "sm_90a": "wgmma and TMA"},
    "attention_fp8": {"sm_90a": "wgmma and TMA"},
    "causal_conv3d": {
        "sm_80": "mma.sync",
        "sm_89": "mma.sync",
        "sm_90a": "wgmma and TMA from 64 channels on, mma.sync below",
    },
    "linear_fp8": {"sm_89": "mma.sync", "sm_90a": "wgmma and TMA"},
}

PLAIN_COPIES = ("pad_causal",)  # no arithmetic, so no instruction sets

# Volumes below this many elements are left to torch in auto mode: the time is call overhead either way, and tiny
# models keep agreeing with other implementations to the last bit.
SMALL_VOLUME = 1 << 17


class Choice(NamedTuple):
    native: bool
    reason: str


def _from_environment(name: str, allowed: tuple[str, ...]) -> str | None:
    value = os.environ.get(name)
    if value is not None and value not in allowed:
        raise ValueError(f"{name}={value}: use one of {', '.join(allowed)}")
    return value


def _load() -> tuple[ModuleType | None, str]:
    """The native module, connected to torch's tensors; or None and the reason."""
    try:
        module = importlib.import_module("hunyuan_ext._C")
    except ModuleNotFoundError:
        return None, "hunyuan_ext._C is not built; `pip install .` or `python setup.py build_ext --inplace` builds it"
    except ImportError as error:
        return None, f"hunyuan_ext._C does not load: {error}"
    wanted = interface.expected()
    if wanted is not None and getattr(module, "interface", None) != wanted:
        return None, f"{module.__file__} was built from other sources; build it again"
    probe = torch.empty_strided((2, 3), (1, 2), dtype=BFLOAT)
    module.use_exchange_api(getattr(torch.Tensor, "__dlpack_c_exchange_api__", None))
    if module.describe(probe) != ((2, 3), (1, 2), 1, -1, probe.data_ptr()):
        module.use_exchange_api(None)  # a torch whose structs differ: read tensors through their attributes
    return module, ""


mode: str = _from_environment("HUNYUAN_EXT_BACKEND", MODES) or "auto"
forced_isa: str | None = _from_environment("HUNYUAN_EXT_ISA", LEVELS)
module, missing = _load()
_choices: dict[tuple[str, str, torch.dtype, int | None], Choice] = {}
# Private, but what torch's own wrappers ask; both cost 0.1 us.
dispatch_modes = torch._C._len_torch_dispatch_stack
transform = torch._C._functorch.peek_interpreter_stack

if module is not None and forced_isa is not None:
    module.set_isa(LEVELS.index(forced_isa))


def isa() -> str:
    """The instruction set in use: "scalar", "avx2" or "avx512"."""
    return LEVELS[module.isa_in_use()] if module is not None else "scalar"


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
    _choices.clear()
    try:
        yield
    finally:
        mode, forced_isa = before
        if module is not None:
            module.set_isa(LEVELS.index(forced_isa) if forced_isa else module.isa_supported())
        _choices.clear()


def _decide(op: str, device: str, dtype: torch.dtype, index: int | None) -> Choice:
    if mode == "reference":
        return Choice(False, "HUNYUAN_EXT_BACKEND=reference")
    if module is None:
        return Choice(False, missing)
    dtypes = KERNELS[op].get(device, ())
    if dtype not in dtypes:
        return Choice(False, f"no {str(dtype).removeprefix('torch.')} kernel for {device}")
    if device == "cuda":
        return _decide_cuda(op, index)
    if op in PLAIN_COPIES:
        return Choice(True, "own copy, of whole rows and for channels-last volumes only")
    if isa() == "scalar" and forced_isa is None and mode == "auto":
        return Choice(False, "this processor has no AVX2; torch is at least as fast")
    return Choice(True, f"own {isa()} kernel")


def _decide_cuda(op: str, index: int | None) -> Choice:
    built = cuda_archs()
    if not built:
        return Choice(False, "built without CUDA kernels")
    capability = cuda_capability(index)
    if capability is None:
        return Choice(False, "torch finds no usable CUDA device")
    having = [arch for arch in built if arch in TENSOR_CORES.get(op, built)]
    covered = any(runs_on(arch, *capability) for arch in having)
    device = "sm_{}{}".format(*capability)
    return Choice(covered, f"built for {', '.join(having) or 'no architecture'}; this device is {device}")


def cuda_archs() -> tuple[str, ...]:
    """The architectures whose machine code is in the native module, such as "sm_90a"."""
    archs = module.build_facts()["cuda_archs"] if module is not None else ""
    return tuple(archs.split(",")) if archs else ()


def cuda_capability(index: int | None) -> tuple[int, int] | None:
    """Compute capability of a device (None: the current one); None where there is none."""
    return torch.cuda.get_device_capability(index) if torch.cuda.is_available() else None


def runs_on(arch: str, major: int, minor: int) -> bool:
    """Whether machine code for "sm_80" runs on a device: same major, minor not above; "sm_90a" on 9.0 only."""
    number = arch.removeprefix("sm_")
    if number.endswith("a"):
        return number[:-1] == f"{major}{minor}"
    return int(number[:-1]) == major and int(number[-1]) <= minor


def choice(op: str, device: str, dtype: torch.dtype, index: int | None = None) -> Choice:
    """What would run for plain tensors of this device and dtype without gradients, and why."""
    key = op, device, dtype, index
    if key not in _choices:
        _choices[key] = _decide(*key)
    return _choices[key]


@constant_while_tracing
def _picks_native(op: str, device: str, dtype: torch.dtype, index: int | None) -> bool:
    if module is None and mode == "native":
        raise RuntimeError(f"HUNYUAN_EXT_BACKEND=native, but {missing}")
    return choice(op, device, dtype, index).native


def runs_native(op: str, x: Tensor, *others: Tensor | None) -> bool:
    """Whether the native kernel of `op` takes this call: x picks device and dtype, all tensors must be plain.

    Gradients, autocast, tensor subclasses, torch.func transforms and dispatch modes (fake tensors, FLOP counters) get
    the composed form. While torch.compile or torch.export traces, True means the torch.library op.
    """
    return _picks_native(op, x.device.type, x.dtype, x.device.index) and is_plain(x, *others)


def is_plain(x: Tensor, *others: Tensor | None) -> bool:
    """Whether a call may go past torch's dispatcher: ordinary tensors on x's device that nothing is watching."""
    device = x.device
    if autocast_enabled(device.type):
        return False
    grad = torch.is_grad_enabled()
    compiling = torch.compiler.is_compiling()
    if not compiling and (dispatch_modes() or transform() is not None):
        return False
    for tensor in (x, *others):
        if tensor is None:
            continue
        if tensor.device != device or (grad and tensor.requires_grad):
            return False
        if not compiling and type(tensor) is not Tensor and type(tensor) is not Parameter:
            return False
    return True


def insisted() -> bool:
    """Whether kernels run even where torch is at least as fast."""
    return mode == "native"


def too_small(x: Tensor) -> bool:
    return not insisted() and x.numel() < SMALL_VOLUME and x.device.type == "cpu"


def slow_bfloat16(x: Tensor) -> bool:
    """Whether x is bfloat16 on a processor whose matrix units cannot take it: float32 arithmetic is then faster."""
    return x.dtype == BFLOAT and x.device.type == "cpu" and not _bfloat16_matmul()


def _bfloat16_matmul() -> bool:
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() if torch.backends.mkldnn.is_available() else False


setattr(_bfloat16_matmul, "_dynamo_marked_constant", True)  # noqa: B010
