"""The ops on arrays of other libraries, without copies: NumPy, JAX, CuPy, whatever has `__dlpack__`.

    from hunyuan_ext import dlpack
    out = dlpack.rope_attention(q, k, v, ...)      # q, k, v of JAX, as an example
    jax.dlpack.from_dlpack(out)                    # and back: what comes out is a torch.Tensor, which has __dlpack__

Each function is the one of `hunyuan_ext` with the same name and arguments. An array is read where it is: memory is
shared. On CUDA its library makes torch's current stream wait for it (the protocol's `stream`); not run on a GPU yet.
What torch cannot hold is refused by name before it is handed over: TypeError for other element types and devices,
ValueError for reversed arrays and for `out` in memory that must not be written.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch

import hunyuan_ext

CPU, CUDA = 1, 2  # DLDeviceType
READ_ONLY = 1  # a flag
MOST_DIMENSIONS = 6  # of any argument of an op

# (DLDataTypeCode, bits) that torch has
DTYPES = {
    **{(0, bits): f"int{bits}" for bits in (8, 16, 32, 64)},
    (1, 8): "uint8",
    **{(2, bits): f"float{bits}" for bits in (16, 32, 64)},
    (4, 16): "bfloat16",
    (6, 8): "bool",
    (10, 8): "float8_e4m3fn",
}


class _View(ctypes.Structure):
    """DLTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Versioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("view", _View),
    ]


def tensor(name: str, array: Any, *, written: bool = False) -> torch.Tensor:
    """A torch.Tensor over the memory of `array`; `name` is for messages, `written` says that an op writes into it."""
    device_type, device_id = array.__dlpack_device__()
    if device_type not in (CPU, CUDA):
        raise TypeError(f"{name}: is on a device of DLPack's type {int(device_type)}, the CPU or CUDA is needed")
    stream = {} if device_type == CPU else {"stream": torch.cuda.current_stream(device_id).cuda_stream or 1}
    try:
        try:
            capsule = array.__dlpack__(max_version=(1, 0), **stream)
        except TypeError:  # older than version 1 of the protocol
            capsule = array.__dlpack__(**stream)
    except BufferError as error:
        raise TypeError(f"{name}: its library does not hand it over: {error}") from None
    view, flags = _inside(capsule)
    _check(name, view)
    if written and (flags is None or flags & READ_ONLY):
        raise ValueError(f"{name}: is written to, but its memory is not known to be writable; give a torch.Tensor")
    return torch.utils.dlpack.from_dlpack(capsule)


def _inside(capsule: Any) -> tuple[_View, int | None]:
    """The capsule's view, and its flags where it has any."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    valid = ctypes.pythonapi.PyCapsule_IsValid
    valid.restype, valid.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)
    if valid(capsule, b"dltensor_versioned"):
        managed = _Versioned.from_address(pointer(capsule, b"dltensor_versioned"))
        return managed.view, managed.flags
    return _View.from_address(pointer(capsule, b"dltensor")), None


def _check(name: str, view: _View) -> None:
    if view.lanes != 1 or (view.code, view.bits) not in DTYPES:
        possible = ", ".join(DTYPES.values())
        raise TypeError(f"{name}: elements of DLPack's type {view.code} with {view.bits} bits; possible: {possible}")
    if view.ndim > MOST_DIMENSIONS:
        raise ValueError(f"{name}: has {view.ndim} dimensions, at most {MOST_DIMENSIONS} are possible")
    if view.strides and any(view.strides[i] < 0 for i in range(view.ndim)):
        raise ValueError(f"{name}: runs backwards in memory; copy it first")


def _converted(name: str, value: Any) -> Any:
    if type(value) in (tuple, list):
        return type(value)(_converted(name, part) for part in value)
    if isinstance(value, torch.Tensor) or not hasattr(value, "__dlpack__"):
        return value
    return tensor(name, value, written=name == "out")


F = TypeVar("F", bound=Callable[..., Any])


def _for_arrays(op: F) -> F:
    signature = inspect.signature(op)

    @functools.wraps(op)
    def call(*arguments, **options):
        bound = signature.bind(*arguments, **options)
        for name, value in bound.arguments.items():
            bound.arguments[name] = _converted(name, value)
        return op(*bound.args, **bound.kwargs)

    return call  # type: ignore[return-value]


attention_with_lse = _for_arrays(hunyuan_ext.attention_with_lse)
causal_conv3d = _for_arrays(hunyuan_ext.causal_conv3d)
fp8_linear = _for_arrays(hunyuan_ext.fp8_linear)
gate_residual = _for_arrays(hunyuan_ext.gate_residual)
group_norm_silu = _for_arrays(hunyuan_ext.group_norm_silu)
int8_linear = _for_arrays(hunyuan_ext.int8_linear)
layer_norm_modulate = _for_arrays(hunyuan_ext.layer_norm_modulate)
linear = _for_arrays(hunyuan_ext.linear)
pad_causal = _for_arrays(hunyuan_ext.pad_causal)
quantize_fp8 = _for_arrays(hunyuan_ext.quantize_fp8)
quantize_int8 = _for_arrays(hunyuan_ext.quantize_int8)
rope_attention = _for_arrays(hunyuan_ext.rope_attention)
