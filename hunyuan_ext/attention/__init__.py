"""Attention over video and text tokens, with QK-RMSNorm and rotary embedding fused into one pass before it.

Each op has a function that plans a call: it checks the arguments and says what runs them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext import reference
from hunyuan_ext.attention import autograd, cpu, cuda, norm_rope
from hunyuan_ext.block_mask import BlockMask
from hunyuan_ext.core import check, plain
from hunyuan_ext.core.dispatch import DESCRIPTIONS, Op, Plan, around_torch, choice, takes
from hunyuan_ext.core.native import slow_bfloat16
from hunyuan_ext.core.operands import qk_fits
from hunyuan_ext.core.types import BFLOAT, FLOAT, Norms, Pair

PRECISIONS = {"auto": None, "fp32": FLOAT, "bf16": BFLOAT, "fp8": BFLOAT, "int8": None}


def rope_attention(
    q: Tensor,  # [B, S, H, D] video tokens first, then text_len text tokens
    k: Tensor,  # [B, S, H, D]
    v: Tensor,  # [B, S, H, D]
    *,
    rope: Pair | None = None,  # cos, sin: [S - text_len, D] fp32
    q_norm: Tensor | None = None,  # [D]
    k_norm: Tensor | None = None,  # [D]
    text_len: int = 0,
    text_norms: Pair | None = None,  # q, k: [D]
    kv_len: Tensor | None = None,  # [B] int
    eps: float = 1e-6,
    scale: float | None = None,
    block_mask: BlockMask | None = None,
    precision: str = "auto",
) -> Tensor:  # [B, S, H, D]
    """Softmax attention after RMSNorm of q and k per head and rotary embedding of the video tokens.

    rope turns interleaved pairs (2i, 2i + 1) of video tokens, after the norm. text_norms are the norm weights of the
    text tokens of a double-stream block; without them q_norm and k_norm serve all tokens. kv_len: valid tokens per
    sample, a prefix of the sequence (all video, some text), 1..S; the keys after it are skipped, not masked, when it
    is on the CPU or a CUDA kernel runs (which limits lengths on the device to 0..S, unchecked). scale: 1 / sqrt(D) by
    default. block_mask: tiles to compute; on CUDA in tiles of multiples of 128. precision: arithmetic of the attention,
    "auto" is v's dtype; "fp8" and "int8" need a device with such a kernel, and "fp8" is bfloat16 for sequences so short
    that FP8 would take longer. The result has v's dtype.

    On CPUs float32 and bfloat16 run in one native kernel where that is faster (`capabilities()` says where and why);
    with AMX its gradients in bfloat16, too. Elsewhere norm and rotation are one native pass (float32 and bfloat16, and
    float16 on CUDA), and the attention is native for bfloat16 and head dimensions 64 and 128 on compute capability 8.x
    and 9.0, else torch's SDPA, which also has the gradients. Raises ValueError or TypeError, naming the argument, for a
    wrong shape, dtype or device.
    """
    norms = q_norm, k_norm, *(text_norms or (None, None))
    tensors, options = (q, k, v, *norms, *(rope or (None, None)), kv_len), (text_len, eps, scale, precision)
    if block_mask is None:
        run = ROPE_ATTENTION.plan(tensors, options)
    else:  # its values count
        run = ROPE_ATTENTION.plan_once(tensors, (*options, block_mask))
    return run(q, k, v, norms, rope, text_len, kv_len, eps, scale, block_mask)


def attention_with_lse(
    q: Tensor,  # [B, Q, H, D]
    k: Tensor,  # [B, K, H, D]
    v: Tensor,  # [B, K, H, D]
    *,
    kv_len: Tensor | None = None,  # [B] int
    scale: float | None = None,
    block_mask: BlockMask | None = None,
) -> Pair:  # [B, Q, H, D], [B, H, Q] float32 (float64 for float64)
    """Softmax attention that also returns the logarithm of each row's sum of exponentials of scaled scores.

    For sequence parallelism: ranks that hold parts of the keys merge their outputs with weights exp(lse). A row without
    keys (kv_len of 0, an empty list) gives zeros and -inf. Arguments as in `rope_attention`; native where that is, else
    composed from torch operations with all scores in memory.
    """
    plan = ATTENTION_WITH_LSE.plan if block_mask is None else ATTENTION_WITH_LSE.plan_once  # a mask's values count
    run = plan((q, k, v, kv_len), (scale, block_mask))
    return run(q, k, v, kv_len=kv_len, scale=scale, block_mask=block_mask)


def plan_rope_attention(tensors: tuple, constants: tuple) -> Plan:
    q, k, v, q_norm, k_norm, text_q_norm, text_k_norm, cos, sin, kv_len = tensors
    text_len, eps, scale, precision, block_mask = constants if len(constants) == 5 else (*constants, None)
    norms, rope = (q_norm, k_norm, text_q_norm, text_k_norm), None if cos is None else (cos, sin)
    _check_arguments(q, k, v, rope, norms, text_len, kv_len, eps)
    check.one_of("precision", precision, tuple(PRECISIONS))
    if precision == "int8":
        raise ValueError(f"precision: no {precision} attention kernel for {q.device.type}; use auto, fp32 or bf16")
    if autograd.attention_fits(q, k, v, rope, norms, kv_len, scale, block_mask, precision):
        return Plan(_train, "rope_attention", "own forward and backward passes")
    planned = cpu.plan(q, k, v, norms, rope, kv_len, scale, block_mask, precision)
    if planned is not None:
        return planned
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if precision == "fp8":
        return _plan_fp8(q, k, v, norms, rope, block_mask, scale)
    dtype = PRECISIONS[precision] or (FLOAT if slow_bfloat16(v) else v.dtype)
    return _plan_parts(q, k, v, norms, rope, block_mask, scale, dtype)


def _train(q, k, v, norms, rope, text_len, kv_len, eps, scale, _):
    lengths = None if kv_len is None else check.lengths(kv_len, k.shape[1])
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return autograd.RopeAttention.apply(q, k, v, *norms, rope, text_len, lengths, eps, scale)


def _plan_fp8(
    q: Tensor, k: Tensor, v: Tensor, norms: Norms, rope: Pair | None, block_mask: BlockMask | None, scale: float
) -> Plan:  # [B, S, H, D]
    if not fp8_kernel(q, k, v, norms, rope, block_mask, scale):
        why = choice("attention_fp8", q.device.type, BFLOAT).reason
        raise ValueError(
            "precision: the fp8 kernel takes plain CUDA tensors of head dimension 128 without gradients on sm_90a "
            f"({why}); use auto, fp32 or bf16"
        )
    if not cuda.fp8_pays(q.shape[1], block_mask):
        plan = _plan_parts(q, k, v, norms, rope, block_mask, scale, BFLOAT)
        return plan._replace(reason=f"bfloat16 below {cuda.FP8_TOKENS} tokens, where it is faster; {plan.reason}")
    if torch.compiler.is_compiling():
        return Plan(_library_fp8, "hunyuan_ext::rope_attention_fp8")
    return Plan(_run_fp8, "attention_fp8", _reason("attention_fp8", q, BFLOAT))


def fp8_kernel(
    q: Tensor, k: Tensor, v: Tensor, norms: Norms, rope: Pair | None, block_mask: BlockMask | None, scale: float
) -> bool:
    """True if the FP8 kernel takes a call."""
    native = takes("attention_fp8", q, k, v, *norms, *(rope or ()), dtype=BFLOAT)
    return native and cuda.fp8_fits(q, norms, rope, block_mask, scale)


def _run_fp8(q, k, v, norms, rope, text_len, kv_len, eps, scale, block_mask):
    kv_len, block_mask, scale = _beside(q, k.shape[1], kv_len, block_mask, scale)
    narrow = q.to(BFLOAT), k.to(BFLOAT), v.to(BFLOAT)
    return cuda.rope_attention_fp8(*narrow, norms, rope, text_len, eps, kv_len, block_mask, scale).to(v.dtype)


def _library_fp8(q, k, v, norms, rope, text_len, kv_len, eps, scale, block_mask):
    kv_len, block_mask, scale = _beside(q, k.shape[1], kv_len, block_mask, scale)
    before = *norms, *(rope or (None, None)), text_len, eps
    narrow = q.to(BFLOAT), k.to(BFLOAT), v.to(BFLOAT)
    return torch.ops.hunyuan_ext.rope_attention_fp8(*narrow, *before, kv_len, *_blocks(block_mask), scale).to(v.dtype)


def _plan_parts(
    q: Tensor,  # [B, S, H, D]
    k: Tensor,
    v: Tensor,
    norms: Norms,
    rope: Pair | None,
    block_mask: BlockMask | None,
    scale: float,
    dtype: torch.dtype,
) -> Plan:
    """Norm and rotation, then the product in `dtype`: each native or torch's."""
    rotates = rope is not None or norms[0] is not None or norms[1] is not None
    kernel, rotation = parts_kernels(q, k, v, norms, rope, block_mask, scale, dtype)
    if torch.compiler.is_compiling():
        rotate = _library_rotation if rotation else _torch_rotation
        return Plan(_parts(rotate if rotates else None, _library_product if kernel else _torch_product, dtype), "")
    if kernel and rotation and q.dtype == k.dtype == v.dtype == dtype:
        name = "qk_norm_rope, attention" if rotates else "attention"
        return Plan(cuda.NormRopeAttention(q, k, v, norms, rope).run, name, _reason("attention", q, dtype))
    rotate = norm_rope.planned(q, k, norms, rope) if rotation else _torch_rotation
    name = ("qk_norm_rope, " if rotates and rotation else "") + ("attention" if kernel else "torch")
    product = _product if kernel else _torch_product
    return Plan(_parts(rotate if rotates else None, product, dtype), name, _reason("attention", q, dtype))


def parts_kernels(
    q: Tensor,  # [B, S, H, D]
    k: Tensor,
    v: Tensor,
    norms: Norms,
    rope: Pair | None,
    block_mask: BlockMask | None,
    scale: float,
    dtype: torch.dtype,
) -> tuple[bool, bool]:
    """(A kernel takes the attention in `dtype`, a kernel takes norm and rotation, if there are any)."""
    rotates = rope is not None or norms[0] is not None or norms[1] is not None
    tensors = (q, k, v, *norms, *(rope or ()))
    kernel = takes("attention", *tensors, dtype=dtype) and cuda.attention_fits(q.shape[-1], block_mask, scale)
    rotation = not rotates or (takes("qk_norm_rope", q, k, *norms, *(rope or ())) and qk_fits(q, k, norms, rope))
    return kernel, rotation


def _parts(rotate: Callable[..., Pair] | None, product: Callable[..., Tensor], dtype: torch.dtype) -> Callable:
    def run(q, k, v, norms, rope, text_len, kv_len, eps, scale, block_mask):
        if rotate is None:
            q, k = q.transpose(1, 2), k.transpose(1, 2)
        else:
            q, k = rotate(q, k, norms, rope, text_len, eps)  # [B, H, S, D]
        heads = q.to(dtype), k.to(dtype), v.transpose(1, 2).to(dtype)
        return product(*heads, kv_len, block_mask, scale).to(v.dtype).transpose(1, 2)

    return run


def _torch_rotation(q, k, norms, rope, text_len, eps):  # [B, S, H, D] -> [B, H, S, D]
    q = reference.qk_norm_rope(q, rope, norms[0], norms[2], text_len, eps)
    k = reference.qk_norm_rope(k, rope, norms[1], norms[3], text_len, eps)
    return q.transpose(1, 2), k.transpose(1, 2)


def _library_rotation(q, k, norms, rope, text_len, eps):  # [B, S, H, D] -> [B, H, S, D]
    return torch.ops.hunyuan_ext.qk_norm_rope(q, k, *norms, *(rope or (None, None)), text_len, eps)


def _product(q, k, v, kv_len, block_mask, scale):  # [B, H, S, D]
    kv_len, block_mask, scale = _beside(q, k.shape[2], kv_len, block_mask, scale)
    return cuda.attention(q, k, v, kv_len, block_mask, scale)[0].transpose(1, 2)


def _library_product(q, k, v, kv_len, block_mask, scale):  # [B, H, S, D]
    kv_len, block_mask, scale = _beside(q, k.shape[2], kv_len, block_mask, scale)
    return torch.ops.hunyuan_ext.attention(q, k, v, kv_len, *_blocks(block_mask), scale)[0].transpose(1, 2)


def _beside(
    q: Tensor, keys: int, kv_len: Tensor | None, mask: BlockMask | None, scale: float | None
) -> tuple[Tensor | None, BlockMask | None, float]:
    """Lengths and mask on q's device, as kernels read them, and the scale, 1 / sqrt(D) by default."""
    mask = None if mask is None else mask.to(q.device)
    return cuda.lengths_on(q.device, keys, kv_len), mask, q.shape[-1] ** -0.5 if scale is None else scale


def _blocks(mask: BlockMask | None) -> tuple[Tensor | None, Tensor | None, int, int]:
    return (None, None, 0, 0) if mask is None else (mask.row_starts, mask.key_blocks, mask.query_tile, mask.key_tile)


def _torch_product(
    q: Tensor, k: Tensor, v: Tensor, kv_len: Tensor | None, block_mask: BlockMask | None, scale: float | None
) -> Tensor:  # [B, H, S, D]
    if 0 in q.shape:  # torch 2.11 on a CPU divides by the number of heads
        return q.clone()
    allowed = None if block_mask is None else block_mask.dense(q.shape[2], k.shape[2]).to(q.device)
    if kv_len is not None and (kv_len.device.type != "cpu" or torch.compiler.is_compiling()):
        # Reading the lengths would stall the device or break the graph: mask the keys instead.
        valid = (torch.arange(k.shape[2], device=q.device) < kv_len.to(q.device)[:, None])[:, None, None]
        allowed, kv_len = valid if allowed is None else valid & allowed, None
    if kv_len is None:
        return F.scaled_dot_product_attention(q, k, v, allowed, scale=scale)
    lengths = check.lengths(kv_len, k.shape[2])
    if len(set(lengths)) <= 1:
        return _attend_prefix(q, k, v, lengths[0] if lengths else k.shape[2], allowed, scale)
    samples = [
        _attend_prefix(q[i : i + 1], k[i : i + 1], v[i : i + 1], length, allowed, scale)
        for i, length in enumerate(lengths)
    ]
    return torch.cat(samples)


def _attend_prefix(q: Tensor, k: Tensor, v: Tensor, length: int, allowed: Tensor | None, scale: float | None) -> Tensor:
    mask = None if allowed is None else allowed[:, :length]
    return F.scaled_dot_product_attention(q, k[:, :, :length], v[:, :, :length], mask, scale=scale)


def plan_attention_with_lse(tensors: tuple, constants: tuple) -> Plan:
    (q, k, v, kv_len), (scale, block_mask) = tensors, constants
    batch, _, heads, dim = check.tensor("q", q, "B Q H D")
    check.like("k", k, "B K H D", (batch, k.shape[1], heads, dim), q)
    check.like("v", v, "B K H D", tuple(k.shape), q)
    _check_lengths(kv_len, batch)
    scale = dim**-0.5 if scale is None else scale
    alike = q.dtype == k.dtype == v.dtype
    if not (alike and takes("attention", q, k, v) and cuda.attention_fits(dim, block_mask, scale)):
        return Plan(reference.attention_with_lse, "torch")
    if torch.compiler.is_compiling():
        return Plan(_library_with_lse, "hunyuan_ext::attention")
    return Plan(_run_with_lse, "attention", _reason("attention", q, q.dtype))


def _run_with_lse(q, k, v, *, kv_len, scale, block_mask):
    kv_len, block_mask, scale = _beside(q, k.shape[1], kv_len, block_mask, scale)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return cuda.attention(q, k, v, kv_len, block_mask, scale)


def _library_with_lse(q, k, v, *, kv_len, scale, block_mask):
    kv_len, block_mask, scale = _beside(q, k.shape[1], kv_len, block_mask, scale)
    heads = (x.transpose(1, 2) for x in (q, k, v))
    return torch.ops.hunyuan_ext.attention(*heads, kv_len, *_blocks(block_mask), scale)


def _check_arguments(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rope: Pair | None,
    norms: tuple[Tensor | None, ...],
    text_len: int,
    kv_len: Tensor | None,
    eps: float,
) -> None:
    batch, tokens, _, dim = shape = check.tensor("q", q, "B S H D")
    check.like("k", k, "B S H D", shape, q)
    check.like("v", v, "B S H D", shape, q)
    if not 0 <= text_len <= tokens:
        raise ValueError(f"text_len: {text_len} text tokens, but q has {tokens} tokens in all")
    for name, norm in zip(("q_norm", "k_norm", "text_norms[0]", "text_norms[1]"), norms, strict=False):
        if norm is not None:
            check.like(name, norm, "D", (dim,), q)
    if rope is not None:
        for name, table in zip(("rope[0] (cos)", "rope[1] (sin)"), rope, strict=True):
            check.like(name, table, "S-text_len D", (tokens - text_len, dim), q)
        if dim % 2:
            raise ValueError(f"rope: pairs need an even head dimension, q has {dim}")
    _check_lengths(kv_len, batch)
    check.positive("eps", eps)


def _check_lengths(kv_len: Tensor | None, batch: int) -> None:
    if kv_len is not None and (kv_len.dtype.is_floating_point or tuple(kv_len.shape) != (batch,)):
        raise ValueError(f"kv_len: an integer tensor [{batch}] is needed, got {check.described(kv_len)}")


def _reason(name: str, x: Tensor, dtype: torch.dtype) -> str:
    return choice(name, plain.device_type(x), dtype, x.device.index).reason


def describe(device: str, dtype: torch.dtype) -> dict:
    """Entry of `capabilities` for rope_attention."""
    what, torch_part = "norm and rotation of q and k", "torch's scaled_dot_product_attention"
    around = around_torch("qk_norm_rope", what, torch_part, device, dtype)
    if device == "cpu":
        native, reason = cpu.describe(dtype)
        if native:
            return {"implementation": "native", "reason": reason}
        return around | {"reason": f"{around['reason']} ({reason})"}
    loop = choice("attention", device, dtype)
    if not loop.native:
        return around
    fp8 = choice("attention_fp8", device, dtype)
    reason = f"head dimension 64 or 128, {loop.reason}; precision fp8: {fp8.reason}"
    return {"implementation": "native", "reason": reason}


ROPE_ATTENTION, ATTENTION_WITH_LSE = Op(plan_rope_attention), Op(plan_attention_with_lse)
DESCRIPTIONS["rope_attention"] = describe
