"""Which kernel runs a call: the table of kernels, the choice for a device and dtype, and remembered plans of calls.

Every family adds its kernels with `kernel` and its operations with `Op`. An operation is called in two steps. A *plan*
is made once for all calls alike: arguments are checked, a kernel is chosen (or torch's operations), and what runs it is
returned. The plan is remembered under a key that holds all that the choice may look at; later calls start it at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hunyuan_ext.core import native, plain
from hunyuan_ext.core.plain import any_autocast, autocast_state, constant_while_tracing, dispatch_modes, transform
from hunyuan_ext.core.types import BFLOAT

REMEMBERED = 1024  # plans of one operation


class Kernel(NamedTuple):
    """A row of the table: where a kernel exists; everything else is composed from torch operations."""

    dtypes: dict[str, tuple[torch.dtype, ...]]  # by device
    # Of CUDA kernels that use tensor cores: what does the work, by architecture. The others read and write memory with
    # ordinary instructions and exist for every architecture that is built.
    tensor_cores: dict[str, str] | None
    copies: bool  # no arithmetic, so no instruction sets


class Choice(NamedTuple):
    native: bool
    reason: str


class Plan(NamedTuple):
    """The choice for a call, and for all calls like it."""

    run: Callable[..., Any]
    kernel: str  # its name, or "torch" or the name of an op of torch.library
    reason: str = ""


KERNELS: dict[str, Kernel] = {}
# What `capabilities` says of an op: (device, dtype) -> {"implementation", "reason"}.
DESCRIPTIONS: dict[str, Callable[[str, torch.dtype], dict]] = {}
_choices: dict[tuple[str, str, torch.dtype, int | None], Choice] = {}
native.memos.append(_choices)


def kernel(
    name: str,
    *,
    cpu: tuple[torch.dtype, ...] = (),
    cuda: tuple[torch.dtype, ...] = (),
    tensor_cores: dict[str, str] | None = None,
    copies: bool = False,
) -> None:
    """Adds a native kernel to the table."""
    dtypes = {device: kinds for device, kinds in (("cpu", cpu), ("cuda", cuda)) if kinds}
    KERNELS[name] = Kernel(dtypes, tensor_cores, copies)


def choice(name: str, device: str, dtype: torch.dtype, index: int | None = None) -> Choice:
    """True if a kernel runs for plain tensors of this device and dtype without gradients, and why."""
    key = name, device, dtype, index
    if plain.rehearsed() is not None:
        return _decide(*key)  # for another machine: not to be remembered
    if key not in _choices:
        _choices[key] = _decide(*key)
    return _choices[key]


def _decide(name: str, device: str, dtype: torch.dtype, index: int | None) -> Choice:
    if native.mode == "reference":
        return Choice(False, "HUNYUAN_EXT_BACKEND=reference")
    if native.module is None:
        return Choice(False, native.missing)
    if dtype not in KERNELS[name].dtypes.get(device, ()):
        return Choice(False, f"no {str(dtype).removeprefix('torch.')} kernel for {device}")
    if device == "cuda":
        return _decide_cuda(name, index)
    if KERNELS[name].copies:
        return Choice(True, "own copy, of whole rows and for channels-last volumes only")
    if native.isa() == "scalar" and native.forced_isa is None and native.mode == "auto":
        return Choice(False, "this processor has no AVX2; torch is at least as fast")
    return Choice(True, f"own {native.isa()} kernel")


def _decide_cuda(name: str, index: int | None) -> Choice:
    built = native.cuda_archs()
    if not built:
        return Choice(False, "built without CUDA kernels")
    capability = native.cuda_capability(index)
    if capability is None:
        return Choice(False, "torch finds no usable CUDA device")
    with_tensor_cores = KERNELS[name].tensor_cores
    having = [arch for arch in built if arch in (built if with_tensor_cores is None else with_tensor_cores)]
    covered = any(native.runs_on(arch, *capability) for arch in having)
    device = "sm_{}{}".format(*capability)
    return Choice(covered, f"built for {', '.join(having) or 'no architecture'}; this device is {device}")


@constant_while_tracing
def exists(name: str, device: str, dtype: torch.dtype, index: int | None) -> bool:
    """True if the kernel may run there; RuntimeError where it must and cannot."""
    if native.module is None and native.mode == "native":
        raise RuntimeError(f"HUNYUAN_EXT_BACKEND=native, but {native.missing}")
    return choice(name, device, dtype, index).native


def takes(name: str, x: Tensor, *others: Tensor | None, dtype: torch.dtype | None = None) -> bool:
    """True if a kernel takes a call: x picks the device and, if it is not given, the dtype; all tensors must be plain.

    Gradients, autocast, tensor subclasses, torch.func transforms and dispatch modes get the composed form. While
    torch.compile or torch.export traces, True means the torch.library op.
    """
    return exists(name, plain.device_type(x), dtype or x.dtype, x.device.index) and plain.may_bypass(x, *others)


def trains(x: Tensor, *others: Tensor | None) -> bool:
    """True if these are plain CPU tensors of which one at least needs a gradient, seen in bfloat16 or without autocast.

    For autograd functions that go past torch's dispatcher.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or plain.device_type(x) != "cpu":
        return False
    if plain.autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != BFLOAT:
        return False
    return plain.is_plain(x, *others) and plain.wants_gradient(x, *others)


def no_gradients() -> str:
    """Why no native gradients are here, or ""."""
    if native.mode == "reference":
        return "HUNYUAN_EXT_BACKEND=reference"
    if native.module is None:
        return native.missing
    return "plain C++ only: AVX2 or AVX-512 is needed" if native.isa() == "scalar" else ""


def trains_native(x: Tensor, *others: Tensor | None) -> bool:
    """True if native gradients are here for a call: plain bfloat16 CPU tensors, of which one needs a gradient."""
    for tensor in (x, *others):
        if tensor is not None and tensor.dtype != BFLOAT:
            return False
    return trains(x, *others) and not no_gradients()  # in this order: torch.compile cannot trace the second


class Op:
    """An operation: how plans of its calls are made, and those that are remembered."""

    def __init__(self, make: Callable[[tuple, tuple], Plan]):
        self.make = make  # (tensors, constants) -> Plan; raises ValueError or TypeError for wrong arguments
        self.plans: dict[tuple, Callable[..., Any]] = {}
        native.memos.append(self.plans)

    def plan(self, tensors: tuple, constants: tuple) -> Callable[..., Any]:
        """Plan of a call with these tensors (or None) and other arguments; raises what is wrong with them."""
        if torch.compiler.is_compiling() or dispatch_modes() or transform() is not None:
            return self.plan_once(tensors, constants)
        key = signature(tensors, torch.is_grad_enabled()), constants, autocast_state() if any_autocast() else None
        try:
            run = self.plans.get(key)
        except TypeError:  # an argument without a hash, which is a wrong one: `make` says so
            run = None
        if run is None:
            run = self.plan_once(tensors, constants)
            if key[0] is not None:
                if len(self.plans) >= REMEMBERED:
                    self.plans.clear()
                self.plans[key] = run
        return run

    def plan_once(self, tensors: tuple, constants: tuple) -> Callable[..., Any]:
        """`plan` for one call: where the choice looks at values."""
        made = self.make(tensors, constants)
        if _asked:
            raise Asked(made)
        return made.run


def _forgetful(tensors: tuple, grad: bool) -> None:
    """Stands in for the native signature: nothing is remembered."""


# (tensors, whether gradients are recorded) -> bytes that are equal for tensors which differ in nothing but their
# values; None where a plan must not be remembered: for subclasses, and devices without kernels.
signature: Callable[[tuple, bool], bytes | None] = _forgetful if native.module is None else native.module.signature
_asked: list[bool] = []


class Asked(Exception):
    """The plan that `explain` asked for, on its way there."""


def explain(op: Callable[..., Any], *arguments: Any, **options: Any) -> dict[str, str]:
    """Which kernel op(*arguments, **options) would run, without running it: {"kernel", "reason"}.

    `op` is a function of this package. Raises what the call would raise for wrong arguments.
    """
    native.forget()
    _asked.append(True)
    try:
        op(*arguments, **options)
    except Asked as answer:
        plan = answer.args[0]
        return {"kernel": plan.kernel, "reason": plan.reason}
    finally:
        _asked.pop()
    raise ValueError(f"op: {op!r} chooses no kernel")


def one_kernel(name: str, device: str, dtype: torch.dtype) -> dict:
    """Entry of `capabilities` for an op that is one kernel."""
    picked = choice(name, device, dtype)
    return {"implementation": "native" if picked.native else "torch", "reason": picked.reason}


def around_torch(
    name: str, what: str, torch_part: str, device: str, dtype: torch.dtype, key: torch.dtype | None = None
) -> dict:
    """Entry of `capabilities` for an op whose main loop is torch's, with a native pass before it."""
    picked = choice(name, device, key or dtype)
    loop = torch_part
    if device == "cpu" and dtype == BFLOAT and not native.bfloat16_matmul():
        loop = f"{torch_part} in float32 (this processor has no bfloat16 matrix unit)"
    if not picked.native:
        return {"implementation": "torch", "reason": f"{loop}; {what}: {picked.reason}"}
    return {"implementation": "native + torch", "reason": f"{what}: {picked.reason}; then {loop}"}
