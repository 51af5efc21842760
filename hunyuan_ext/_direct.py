"""Short cuts of eager inference on a CPU: call the kernel first, look at the arguments only where it refuses them.

The bindings check shapes, types, strides and devices themselves, so a call costs 2 to 5 us instead of 7 to 40; small
models are made of little else. Every function returns None where the long way must be taken: it names what is wrong
with an argument, copies it into another layout, or composes what has no kernel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from hunyuan_ext import _backend, _cpu_attention, _cpu_linear
from hunyuan_ext._backend import BFLOAT, FLOAT
from hunyuan_ext._native import _C
from hunyuan_ext._types import Norms, Pair


def is_plain(x: Tensor, *others: Tensor | None) -> bool:
    """Whether x is an ordinary CPU tensor, the others none of a subclass, and nothing watches eager calls on them."""
    if (
        torch.compiler.is_compiling()
        or torch.is_grad_enabled()
        or torch.is_autocast_enabled("cpu")
        or _backend.dispatch_modes()
        or _backend.transform() is not None
        or type(x) is not Tensor
        or not x.is_cpu
    ):
        return False
    for tensor in others:
        if tensor is not None and type(tensor) is not Tensor and type(tensor) is not Parameter:
            return False
    return True


def done(kernel: Callable[..., None], *arguments: object) -> bool:
    """Whether a kernel took its arguments; it refuses them before it writes anything."""
    try:
        kernel(*arguments)
    except (TypeError, ValueError):
        return False
    return True


def layer_norm_modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor | None:
    if not (is_plain(x, shift, scale) and eps > 0 and _backend.choice("layer_norm_modulate", "cpu", x.dtype).native):
        return None
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    return out if done(_C.layer_norm_modulate, x, shift, scale, out, eps, torch.get_num_threads()) else None


def gate_residual(x: Tensor, y: Tensor, gate: Tensor) -> Tensor | None:
    if not (is_plain(x, y, gate) and _backend.choice("gate_residual", "cpu", x.dtype).native):
        return None
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    return out if done(_C.gate_residual, x, y, gate, out, torch.get_num_threads()) else None


def linear(
    x: object,  # a tensor [..., K], or two
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    activation_from: int,
    gate: Tensor | None,
    residual: Tensor | None,
    out: Tensor | None,
) -> Tensor | None:
    inputs = (x,) if type(x) is Tensor else x
    if type(inputs) is not tuple or activation not in (None, "gelu_tanh"):
        return None
    if not is_plain(*inputs, weight, bias, gate, residual, out):
        return None
    first: Tensor = inputs[0]
    if first.dtype == weight.dtype == FLOAT:
        simple = activation_from == 0 and out is None and (gate is None) == (residual is None)
        return _float_linear(inputs, weight, bias, activation, gate, residual) if simple else None
    if first.dtype != BFLOAT or weight.dtype != BFLOAT or not _backend.choice("linear", "cpu", BFLOAT).native:
        return None
    row = _cpu_linear.find_row("bfloat16")
    if row is None or not (row.faster or _backend.insisted()):
        return None
    if first.ndim != 3 and not (first.ndim == 2 and gate is residual is out is None):
        return None
    if out is None:
        out = first.new_empty((*first.shape[:-1], weight.shape[0]))
    elif out.dtype != BFLOAT:
        return None
    begin = activation_from if activation else weight.shape[0]
    threads = torch.get_num_threads()
    took = done(_C.linear, inputs, weight, None, bias, gate, residual, out, begin, row.unit, threads)
    return out if took else None


def _float_linear(
    inputs: tuple[Tensor, ...],
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    gate: Tensor | None,
    residual: Tensor | None,
) -> Tensor | None:
    """torch's product and what follows it; large ones with an activation go the long way, to oneDNN."""
    x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, -1)
    rows, columns = weight.shape
    if x.shape[-1] != columns or (bias is not None and bias.shape[0] != rows):
        return None
    if activation is not None and x.numel() * rows >= _cpu_linear.SMALL:
        return None
    product = F.linear(x, weight, bias)
    product = product if activation is None else F.gelu(product, approximate="tanh")
    return product if gate is None or residual is None else gate_residual(residual, product, gate)


def rope_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rope: Pair | None,
    norms: Norms,
    text_len: int,
    kv_len: Tensor | None,
    eps: float,
    scale: float | None,
) -> Tensor | None:
    """Dense attention in the tensors' own precision."""
    if not (is_plain(q, k, v, *norms, *(rope or ())) and eps > 0 and q.dtype == v.dtype and q.ndim == 4):
        return None
    if not _backend.choice("rope_attention", "cpu", q.dtype).native or not (kv_len is None or kv_len.is_cpu):
        return None
    row = _cpu_attention.find_row(_cpu_attention.arithmetic(q.dtype, "auto"))
    if row is None or not _cpu_attention.preferred(row) or _cpu_attention.too_short(q):
        return None
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    lengths = None if kv_len is None else kv_len.tolist()
    scale = q.shape[3] ** -0.5 if scale is None else scale
    unit, threads = _cpu_attention.UNITS.index(row.unit), torch.get_num_threads()
    took = done(_C.rope_attention, q, k, v, out, norms, rope, lengths, None, text_len, eps, scale, unit, threads)
    return out if took else None
