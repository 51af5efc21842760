"""Native forward and backward passes of the block's ops on the CPU in bfloat16, as autograd functions.

What training in bfloat16 (tensors of that type, or autocast to it) spends outside matrix products is passes over
memory: each function here is one pass forward and one backward, and keeps no more than its inputs, an output and the
log-sum-exp. Sums are float32, results are rounded once. The same bits for any number of threads. Not differentiable
twice.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hunyuan_ext import _backend, _check, _native
from hunyuan_ext._backend import BFLOAT
from hunyuan_ext._types import Norms, Pair
from hunyuan_ext.autocast import autocast_enabled
from hunyuan_ext.block_mask import BlockMask

AMX_UNIT = 2  # hunyuan_attention_unit
MAX_HEAD_DIM = 128


def takes(x: Tensor, *others: Tensor | None) -> bool:
    """Whether a call on these tensors wants gradients and runs here: plain bfloat16 tensors on the CPU."""
    return all(one is None or one.dtype == BFLOAT for one in (x, *others)) and wants_gradients(x, *others)


def wants_gradients(x: Tensor, *others: Tensor | None) -> bool:
    """Whether native gradients are here for plain CPU tensors, of which one at least needs a gradient."""
    return is_plain_training(x, *others) and not missing()  # in this order: torch.compile cannot trace the second


def is_plain_training(x: Tensor, *others: Tensor | None) -> bool:
    """Whether plain CPU tensors, of which one at least needs a gradient, are what torch's dispatcher would see."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    if autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != BFLOAT:
        return False
    if _backend.dispatch_modes() or _backend.transform() is not None:
        return False
    given = [one for one in (x, *others) if one is not None]
    plain = all(type(one) in (Tensor, torch.nn.Parameter) and one.device == x.device for one in given)
    return plain and any(one.requires_grad for one in given)


class LayerNormModulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.eps = eps
        return _native.layer_norm_modulate(x, shift, scale, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale = ctx.saved_tensors
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        grad_shift, grad_scale = (torch.empty_like(scale, memory_format=torch.contiguous_format) for _ in range(2))
        _native._C.layer_norm_modulate_backward(
            _native.rows(grad), _native.rows(x), _native.rows(scale), grad_x, grad_shift, grad_scale, ctx.eps,
            torch.get_num_threads(),
        )  # fmt: skip
        return grad_x, grad_shift, grad_scale, None


class GateResidual(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(y, gate)
        return _native.gate_residual(x, y, gate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, gate = ctx.saved_tensors
        grad_y, grad_gate = (torch.empty_like(one, memory_format=torch.contiguous_format) for one in (y, gate))
        _native._C.gate_residual_backward(
            _native.rows(grad), _native.rows(y), _native.rows(gate), grad_y, grad_gate, torch.get_num_threads()
        )
        return grad, grad_y, grad_gate


class SplitGelu(torch.autograd.Function):
    """(x[..., :split], gelu(x[..., split:])): the first is a view, the gradient one tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, split: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        ctx.split = split
        tail = x[..., split:]
        out = torch.empty(tail.shape, dtype=x.dtype)
        _native._C.gelu(as_matrix(tail), None, as_matrix(out), torch.get_num_threads())
        return x[..., :split].view(*x.shape[:-1], split), out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_head: Tensor, grad_tail: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        grad = torch.empty_like(x, memory_format=torch.contiguous_format)
        grad[..., : ctx.split].copy_(grad_head)
        matrices = (as_matrix(one) for one in (x[..., ctx.split :], grad_tail, grad[..., ctx.split :]))
        _native._C.gelu(*matrices, torch.get_num_threads())
        return grad, None


class RopeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,  # [B, S, H, D]
        k: Tensor,
        v: Tensor,
        q_norm: Tensor | None,
        k_norm: Tensor | None,
        text_q_norm: Tensor | None,
        text_k_norm: Tensor | None,
        rope: Pair | None,
        text_len: int,
        lengths: list[int] | None,
        eps: float,
        scale: float,
    ) -> Tensor:  # [B, S, H, D]
        q, k, v = map(_native.rows, (q, k, v))
        batch, tokens, heads, _ = q.shape
        out = torch.empty(q.shape, dtype=v.dtype)
        lse = torch.empty((batch, heads, tokens))
        norms = q_norm, k_norm, text_q_norm, text_k_norm
        rope = None if rope is None else (_native.rows(rope[0]), _native.rows(rope[1]))
        _native._C.rope_attention(
            q, k, v, out, norms, rope, lengths, None, text_len, eps, scale, AMX_UNIT, torch.get_num_threads(), lse
        )
        ctx.save_for_backward(q, k, v, out, lse, *norms, *(rope or (None, None)))
        ctx.options = lengths, text_len, eps, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, *rest = ctx.saved_tensors
        norms, rope = tuple(rest[:4]), None if rest[4] is None else tuple(rest[4:])
        grads = grad.new_empty((*q.shape[:2], 3, *q.shape[2:])).unbind(2)
        grad_norms = tuple(None if one is None else torch.empty(one.shape) for one in norms)
        lengths, text_len, eps, scale = ctx.options
        _native._C.rope_attention_backward(
            (q, k, v, out, lse), _native.rows(grad), grads, grad_norms, norms, rope, lengths, text_len, eps, scale,
            AMX_UNIT, torch.get_num_threads(),
        )  # fmt: skip
        cast = (None if g is None else g.to(one.dtype) for g, one in zip(grad_norms, norms, strict=True))
        return *grads, *cast, None, None, None, None, None


def attention_fits(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rope: Pair | None,
    norms: Norms,
    kv_len: Tensor | None,
    scale: float | None,
    block_mask: BlockMask | None,
    precision: str,
) -> bool:
    """Whether `RopeAttention` takes this call."""
    dim = q.shape[3]
    return (
        q.dtype == k.dtype == v.dtype == BFLOAT
        and precision in ("auto", "bf16")
        and block_mask is None
        and (scale is None or scale > 0)
        and dim % 16 == 0
        and 16 <= dim <= MAX_HEAD_DIM
        and (kv_len is None or kv_len.device.type == "cpu")
        and not (rope is not None and (rope[0].requires_grad or rope[1].requires_grad))
        and _native.qk_fits(q, k, norms, rope)
        and wants_gradients(q, k, v, *norms)
        and not missing_attention()
    )


def missing() -> str:
    """Why no native gradients are here, or ""."""
    if _backend.mode == "reference":
        return "HUNYUAN_EXT_BACKEND=reference"
    if _backend.module is None:
        return _backend.missing
    return "plain C++ only: AVX2 or AVX-512 is needed" if _backend.isa() == "scalar" else ""


def missing_attention() -> str:
    """Why attention has no native gradients here, or ""."""
    module = _backend.module
    if missing() or module is None:
        return missing()
    return "" if module.has_attention_unit(AMX_UNIT) else "needs a processor with AMX"


def described() -> dict[str, dict]:
    """{op: {"implementation", "reason"}} of training in bfloat16 on the CPU."""
    facts = {}
    for op in ("rope_attention", "layer_norm_modulate", "gate_residual", "split_gelu"):
        why = missing_attention() if op == "rope_attention" else missing()
        kind = "torch" if why else "native"
        facts[op] = {"implementation": kind, "reason": why or "own forward and backward passes"}
    return facts


def split_gelu(
    x: Tensor,  # [..., C]
    split: int,
) -> tuple[Tensor, Tensor]:  # [..., split], [..., C - split]
    """(x[..., :split], gelu(x[..., split:])), tanh form: what a fused QKV and MLP projection is cut into.

    Native, forward and backward, for bfloat16 on CPUs with AVX2 or AVX-512 where gradients are wanted; elsewhere torch.
    Raises TypeError or ValueError, naming the argument, for anything but a floating-point tensor or a split outside it.
    """
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point or x.ndim < 1:
        raise TypeError(f"x: a floating-point tensor [..., C] is needed, got {_check.described(x)}")
    if not 0 <= split <= x.shape[-1]:
        raise ValueError(f"split: {split} is not within the {x.shape[-1]} columns of x")
    if takes(x) and x.is_contiguous():
        return SplitGelu.apply(x, split)
    head, tail = x.tensor_split((split,), dim=-1)
    return head, F.gelu(tail, approximate="tanh")


def as_matrix(x: Tensor) -> Tensor:  # [..., C] -> [N, C]
    """A view where the leading dimensions allow one."""
    return _native.rows(x).flatten(0, -2) if x.ndim != 2 else _native.rows(x)
