"""Attention on the CPU: which unit multiplies, when it is chosen over torch, and the call of its kernel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hunyuan_ext import _backend, _native
from hunyuan_ext._backend import BFLOAT, FLOAT
from hunyuan_ext._types import Norms, Pair
from hunyuan_ext.block_mask import BlockMask

UNITS = ("float32", "AVX512-BF16", "AMX-BF16", "AMX-BF16x3")  # hunyuan_attention_unit
MAX_HEAD_DIM = 128


class Row(NamedTuple):
    """One row of the decision table: for this arithmetic, on this unit, is the kernel at least as fast as torch?"""

    arithmetic: torch.dtype
    unit: str
    intel: bool | None  # processors of this maker, of others, or (None) of all
    faster: bool
    reason: str


# The first row whose unit the machine has is taken. Ratios: RMSNorm and rotation as diffusers does them and torch's
# SDPA, over the kernel's time; docs/kernels/attention_cpu.md has the sizes and how they were measured.
TABLE = (
    Row(BFLOAT, "AMX-BF16", None, True, "2.5 to 4x diffusers' norm and rotation and torch's SDPA, which uses AMX too"),
    Row(BFLOAT, "AVX512-BF16", False, True, "2.3 to 2.8x (prototype on Zen 4): MKL does not use AVX512-BF16 there"),
    Row(BFLOAT, "AVX512-BF16", True, False, "not compared with MKL's own AVX512-BF16 kernels"),
    Row(
        FLOAT, "AMX-BF16x3", None, True, "1.7 to 2.3x diffusers' norm and rotation and torch's SDPA, and no less exact"
    ),
    Row(FLOAT, "float32", False, True, "MKL reaches 60 % of peak on processors that are not Intel's"),
    Row(FLOAT, "float32", True, True, "1.15 to 1.7x diffusers' norm and rotation and torch's SDPA, with AVX-512"),
)
# A list that leaves out at least this share of the tiles is always worth it: torch computes them all and masks.
SPARSE = 0.75
SHORT, FEW_HEADS = 24, 8  # tokens, heads of all samples; the table of short sequences in attention_cpu.md


def arithmetic(dtype: torch.dtype, precision: str) -> torch.dtype:
    """What the kernel multiplies in: as asked for, else the tensors' type where a unit for it exists."""
    if precision != "auto":
        return FLOAT if precision == "fp32" else BFLOAT
    return BFLOAT if dtype == BFLOAT and find_row(BFLOAT) is not None else FLOAT


def find_row(dtype: torch.dtype) -> Row | None:
    """The row of the table that holds here, or None where no unit multiplies this type."""
    module = _backend.module
    if module is None:
        return None
    for row in TABLE:
        suits = row.intel is None or row.intel == module.cpu_is_intel()
        if row.arithmetic == dtype and suits and module.has_attention_unit(UNITS.index(row.unit)):
            return row
    return None


def too_short(x: Tensor) -> bool:  # [B, S, H, D]
    """Whether torch is faster on few tokens of many heads: the kernel starts with blocks of 32 for every head.

    Only in float32, whose blocks are split in three; in bfloat16 the kernel is faster from one token on.
    """
    batch, tokens, heads, _ = x.shape
    return x.dtype == FLOAT and tokens <= SHORT and batch * heads > FEW_HEADS and not _backend.insisted()


def preferred(row: Row) -> bool:
    """Whether the kernel runs: where it is faster, or where the environment asks for native kernels."""
    return row.faster or _backend.mode == "native" or _backend.forced_isa is not None


def unit_for(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rope: Pair | None,
    norms: Norms,
    scale: float | None,
    block_mask: BlockMask | None,
    precision: str,
) -> int | None:
    """The unit whose kernel takes this call, or None: torch does."""
    if (
        precision == "fp8"
        or torch.compiler.is_compiling()
        or not _backend.runs_native("rope_attention", q, k, v, *norms, *(rope or ()))
    ):
        return None
    dim = q.shape[3]
    if not (q.dtype == v.dtype and _native.qk_fits(q, k, norms, rope) and (scale is None or scale > 0)):
        return None
    if dim % 16 or not 16 <= dim <= MAX_HEAD_DIM:
        return None
    row = find_row(arithmetic(v.dtype, precision))
    if row is None:
        return None
    if (preferred(row) and not too_short(q)) or (block_mask is not None and block_mask.density <= SPARSE):
        return UNITS.index(row.unit)
    return None


def attend(
    q: Tensor,  # [B, S, H, D]
    k: Tensor,  # [B, S, H, D]
    v: Tensor,  # [B, S, H, D]
    unit: int,
    norms: Norms,
    rope: Pair | None,
    text_len: int,
    lengths: list[int] | None,  # valid keys of each sample
    eps: float,
    scale: float | None,
    block_mask: BlockMask | None,
) -> Tensor:  # [B, S, H, D], contiguous
    """Norm, rotation and attention in one kernel; for calls that `unit_for` accepted."""
    out = torch.empty(q.shape, dtype=v.dtype, device=v.device)
    rope = None if rope is None else (_native.rows(rope[0]), _native.rows(rope[1]))
    tiles = None
    if block_mask is not None:
        block_mask.check(q.shape[1], k.shape[1])
        lists = (x.to("cpu", torch.int32).contiguous() for x in (block_mask.row_starts, block_mask.key_blocks))
        tiles = (*lists, block_mask.query_tile, block_mask.key_tile)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    q, k, v = map(_native.rows, (q, k, v))
    threads = torch.get_num_threads()
    _native._C.rope_attention(q, k, v, out, norms, rope, lengths, tiles, text_len, eps, scale, unit, threads)
    return out


def describe(dtype: torch.dtype) -> tuple[bool, str]:
    """(whether the kernel runs for dense attention on tensors of this type, why): for `capabilities`."""
    choice = _backend.choice("rope_attention", "cpu", dtype)
    row = find_row(arithmetic(dtype, "auto")) if choice.native else None
    if row is None:
        return False, choice.reason
    if preferred(row):
        return True, f"own {row.unit} kernel: {row.reason}; head_dim a multiple of 16 up to {MAX_HEAD_DIM}, else torch"
    return False, f"own {row.unit} kernel only for sparse block masks: {row.reason}"
