"""Attention on the CPU: which unit multiplies, when it is chosen over torch, and the call of its kernel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hunyuan_ext.block_mask import BlockMask
from hunyuan_ext.core import check, native
from hunyuan_ext.core.dispatch import Plan, choice, kernel, takes
from hunyuan_ext.core.operands import contiguous_strides, in_rows, qk_fits, rows
from hunyuan_ext.core.types import BFLOAT, FLOAT, Norms, Pair

kernel("rope_attention", cpu=(FLOAT, BFLOAT))

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
    """Arithmetic of the kernel's products: as requested, else the tensors' type where a unit for it exists."""
    if precision != "auto":
        return FLOAT if precision == "fp32" else BFLOAT
    return BFLOAT if dtype == BFLOAT and find_row(BFLOAT) is not None else FLOAT


def find_row(dtype: torch.dtype) -> Row | None:
    """The row of the table that holds here, or None where no unit multiplies this type."""
    module = native.module
    if module is None:
        return None
    for row in TABLE:
        suits = row.intel is None or row.intel == module.cpu_is_intel()
        if row.arithmetic == dtype and suits and module.has_attention_unit(UNITS.index(row.unit)):
            return row
    return None


def too_short(x: Tensor) -> bool:  # [B, S, H, D]
    """True if torch is faster on few tokens of many heads: the kernel starts with blocks of 32 for every head.

    Only in float32, whose blocks are split in three; in bfloat16 the kernel is faster from one token on.
    """
    batch, tokens, heads, _ = x.shape
    return x.dtype == FLOAT and tokens <= SHORT and batch * heads > FEW_HEADS and not native.insisted()


def preferred(row: Row) -> bool:
    """True if the kernel runs: where it is faster, or where the environment asks for native kernels."""
    return row.faster or native.insisted() or native.forced_isa is not None


def row_for(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rope: Pair | None,
    norms: Norms,
    scale: float | None,
    block_mask: BlockMask | None,
    precision: str,
) -> Row | None:
    """The row of the table whose kernel takes this call, or None: torch does."""
    if (
        precision == "fp8"
        or torch.compiler.is_compiling()
        or not takes("rope_attention", q, k, v, *norms, *(rope or ()))
    ):
        return None
    dim = q.shape[3]
    if not (q.dtype == v.dtype and qk_fits(q, k, norms, rope) and (scale is None or scale > 0)):
        return None
    if dim % 16 or not 16 <= dim <= MAX_HEAD_DIM:
        return None
    row = find_row(arithmetic(v.dtype, precision))
    if row is None:
        return None
    if (preferred(row) and not too_short(q)) or (block_mask is not None and block_mask.density <= SPARSE):
        return row
    return None


class Attention:
    """Norm, rotation and attention in one kernel, for [B, S, H, D] tensors like those of one plan."""

    def __init__(self, row: Row, tensors: tuple[Tensor | None, ...], keys: int, dim: int):
        self.unit, self.keys, self.scale = UNITS.index(row.unit), keys, dim**-0.5
        self.shape = tuple(tensors[0].shape)  # type: ignore[union-attr]
        self.strides = contiguous_strides(self.shape)
        self.run = self.call if all(x is None or in_rows(x) for x in tensors) else self.copy_and_call

    def call(self, q, k, v, norms, rope, text_len, kv_len, eps, scale, block_mask):  # -> [B, S, H, D], contiguous
        out = torch.empty_strided(self.shape, self.strides, dtype=q.dtype, device="cpu")
        lengths = None if kv_len is None else check.lengths(kv_len, self.keys)
        tiles = None if block_mask is None else tiles_of(block_mask, q.shape[1], self.keys)
        scale, threads = self.scale if scale is None else scale, torch.get_num_threads()
        native.module.rope_attention(
            q, k, v, out, norms, rope, lengths, tiles, text_len, eps, scale, self.unit, threads
        )
        return out

    def copy_and_call(self, q, k, v, norms, rope, *others):
        norms = tuple(None if norm is None else rows(norm) for norm in norms)
        rope = None if rope is None else (rows(rope[0]), rows(rope[1]))
        return self.call(rows(q), rows(k), rows(v), norms, rope, *others)


def tiles_of(mask: BlockMask, queries: int, keys: int) -> tuple[Tensor, Tensor, int, int]:
    """A block mask as the kernel takes it; ValueError for one that does not fit."""
    mask.check(queries, keys)
    row_starts, key_blocks = (x.to("cpu", torch.int32).contiguous() for x in (mask.row_starts, mask.key_blocks))
    return row_starts, key_blocks, mask.query_tile, mask.key_tile


def plan(
    q: Tensor,  # [B, S, H, D]
    k: Tensor,  # [B, S, H, D]
    v: Tensor,  # [B, S, H, D]
    norms: Norms,
    rope: Pair | None,
    kv_len: Tensor | None,
    scale: float | None,
    block_mask: BlockMask | None,
    precision: str,
) -> Plan | None:
    """The plan of a call that the kernel takes, or None."""
    row = row_for(q, k, v, rope, norms, scale, block_mask, precision)
    if row is None or not (kv_len is None or kv_len.device.type == "cpu"):
        return None
    call = Attention(row, (q, k, v, *norms, *(rope or ())), k.shape[1], q.shape[3])
    return Plan(call.run, "rope_attention", f"{row.unit}: {row.reason}")


def describe(dtype: torch.dtype) -> tuple[bool, str]:
    """(whether the kernel runs for dense attention on tensors of this type, why): for `capabilities`."""
    picked = choice("rope_attention", "cpu", dtype)
    row = find_row(arithmetic(dtype, "auto")) if picked.native else None
    if row is None:
        return False, picked.reason
    if preferred(row):
        return True, f"own {row.unit} kernel: {row.reason}; head_dim a multiple of 16 up to {MAX_HEAD_DIM}, else torch"
    return False, f"own {row.unit} kernel only for sparse block masks: {row.reason}"
