"""Kernels of FP8 products on CUDA and of what feeds them: their calls, and the library ops of the linear layers.

What is made of codes has no gradient: where one is wanted, activations stay plain.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext import reference
from hunyuan_ext.core import native
from hunyuan_ext.core.dispatch import kernel, takes
from hunyuan_ext.core.library import promoted, register
from hunyuan_ext.core.operands import aligned, aligned_rows, contiguous_strides, even_rows, in_rows, rows
from hunyuan_ext.core.types import BFLOAT, E4M3, FLOAT, SCALE_BLOCK, Fp8Rows
from hunyuan_ext.linear import autograd, quantize

kernel("linear_fp8", cuda=(BFLOAT,), tensor_cores={"sm_89": "mma.sync", "sm_90a": "wgmma and TMA"})

FEW_ROWS = 16  # of x, up to which the kernel is one that reads the weight once and multiplies bfloat16
LONG_INNER = 8192  # columns of K from which x is quantized by blocks: the kernel then adds up by blocks in any case


def linear_fits(weight: Tensor, *others: Tensor | None) -> bool:
    """True if the FP8 product takes this weight [N, K] and these bfloat16 tensors (bias, gate, residual)."""
    return (
        weight.dtype == E4M3
        and weight.is_contiguous()
        and all(size % 16 == 0 and size > 0 for size in weight.shape)
        and all(other is None or other.dtype == BFLOAT for other in others)
    )


def few_rows_fit(x: Tensor, scale: Tensor) -> bool:
    """True if the kernel for few rows takes x [..., K] and a weight with this scale."""
    by_block = scale.ndim == 2 and scale.shape[1] != 1
    return 0 < x.numel() <= FEW_ROWS * x.shape[-1] and not by_block


def x_block(columns: int) -> int:
    """Columns of a row that share a scale when x [..., columns] is quantized for a product."""
    return SCALE_BLOCK if columns >= LONG_INNER else 0


def scale_shape(count: int, columns: int, block: int) -> tuple[int, ...]:
    return (-(-columns // block), count) if block else (count,)


def parts_fit(parts: Sequence[Fp8Rows]) -> bool:
    """True if the product takes these as its x: one, or two with scales by block, the first of whole blocks."""
    by_block = all(part.scale.ndim == 2 for part in parts)
    return len(parts) == 1 or (by_block and parts[0].codes.shape[-1] % SCALE_BLOCK == 0)


def quantize_rows(x: Tensor, block: int = 0) -> Fp8Rows:  # [..., K]
    """E4M3 codes with a scale a row, or a scale for every `block` = 128 columns of a row."""
    columns = x.shape[-1]
    codes = torch.empty(x.shape, dtype=E4M3, device=x.device)
    scale = torch.empty(scale_shape(x.shape[:-1].numel(), columns, block), dtype=FLOAT, device=x.device)
    x = x if x.is_contiguous() else x.reshape(-1, columns)
    native.module.quantize_rows(aligned_rows(x), codes, scale)
    return Fp8Rows(codes, scale)


def layer_norm_modulate_fp8(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Fp8Rows:  # [B, S, C]
    batch, tokens, _ = x.shape
    codes = torch.empty(x.shape, dtype=E4M3, device=x.device)
    out_scale = torch.empty((batch * tokens,), dtype=FLOAT, device=x.device)
    native.module.layer_norm_modulate_fp8(rows(x), rows(shift), rows(scale), codes, out_scale, eps)
    return Fp8Rows(codes, out_scale)


class LayerNormFp8:
    """layer_norm_modulate_fp8 for tensors like those of one plan: a call allocates and runs."""

    def __init__(self, x: Tensor, shift: Tensor, scale: Tensor):
        self.device, self.codes = x.device, (x.shape, contiguous_strides(x.shape))
        self.scales = (x.shape[0] * x.shape[1],), (1,)
        self.run = self.call if all(map(in_rows, (x, shift, scale))) else layer_norm_modulate_fp8

    def call(self, x, shift, scale, eps):
        codes = torch.empty_strided(*self.codes, dtype=E4M3, device=self.device)
        out_scale = torch.empty_strided(*self.scales, dtype=FLOAT, device=self.device)
        native.module.layer_norm_modulate_fp8(x, shift, scale, codes, out_scale, eps)
        return Fp8Rows(codes, out_scale)


def linear_fp8(
    parts: Sequence[Fp8Rows],  # [..., K], or two that are K together
    weight: Tensor,  # [N, K] E4M3
    scale: Tensor,  # fp32: [], [N, 1] or [ceil(N / 128), ceil(K / 128)]
    bias: Tensor | None,  # [N]
    gelu: bool,
    gate: Tensor | None,  # [B, N]
    residual: Tensor | None,  # [..., N]
    out: Tensor | None = None,  # [..., N] bfloat16
) -> Tensor:  # [..., N] bfloat16
    shape = (*parts[0].codes.shape[:-1], weight.shape[0])
    result = out if out is not None and out.is_contiguous() and out.data_ptr() % 16 == 0 else None
    if result is None:
        result = torch.empty(shape, dtype=BFLOAT, device=weight.device)
    run_linear(parts, weight, scale, bias, gelu, gate, residual, result, None)
    return result if out is None or out is result else out.copy_(result)


def linear_fp8_quantized(
    parts: Sequence[Fp8Rows], weight: Tensor, scale: Tensor, bias: Tensor | None, gelu: bool
) -> Fp8Rows:  # [..., N] with a scale for every 128 columns of a row
    """linear_fp8 whose epilogue quantizes."""
    lead, columns = parts[0].codes.shape[:-1], weight.shape[0]
    codes = torch.empty((*lead, columns), dtype=E4M3, device=weight.device)
    out_scale = torch.empty(scale_shape(lead.numel(), columns, SCALE_BLOCK), dtype=FLOAT, device=weight.device)
    run_linear(parts, weight, scale, bias, gelu, None, None, codes, out_scale)
    return Fp8Rows(codes, out_scale)


def run_linear(
    parts: Sequence[Fp8Rows], weight: Tensor, scale: Tensor, bias: Tensor | None, gelu: bool, gate: Tensor | None,
    residual: Tensor | None, out: Tensor, out_scale: Tensor | None,
) -> None:  # fmt: skip
    dense = [(part.codes.contiguous(), part.scale) for part in parts]
    head, tail = dense[0], dense[1] if len(dense) > 1 else (None, None)
    bias, residual = aligned(bias), aligned(residual)
    gate = None if gate is None else even_rows(gate)
    weight, scale = cast(Tensor, aligned(weight)), cast(Tensor, aligned(scale))
    native.module.linear_fp8(*head, *tail, weight, scale, bias, gate, residual, out, out_scale, gelu)


def few_rows(
    x: Tensor,  # [..., K] bfloat16, at most FEW_ROWS rows
    weight: Tensor,  # [N, K] E4M3
    scale: Tensor,  # fp32: [] or [N, 1]
    bias: Tensor | None,  # [N]
    gelu: bool,
    gate: Tensor | None,  # [B, N]
    residual: Tensor | None,  # [..., N]
) -> Tensor:  # [..., N] bfloat16
    out = torch.empty((*x.shape[:-1], weight.shape[0]), dtype=BFLOAT, device=weight.device)
    x = aligned_rows(x if x.is_contiguous() else x.reshape(-1, x.shape[-1]))
    gate = None if gate is None else rows(gate)
    residual = None if residual is None else residual.contiguous()
    bias = None if bias is None else bias.contiguous()
    native.module.linear_few_rows(x, aligned(weight), scale.contiguous(), bias, gate, residual, out, gelu)
    return out


def plain_linear(
    x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, gelu: bool, gate: Tensor | None,
    residual: Tensor | None,
) -> Tensor:  # fmt: skip
    """linear_fp8 of plain x [..., K]: few rows as they are, more of them quantized."""
    if few_rows_fit(x, scale):
        return few_rows(x, weight, scale, bias, gelu, gate, residual)
    rows_of_x = quantize_rows(x, x_block(x.shape[-1]))
    return linear_fp8((rows_of_x,), weight, scale, bias, gelu, gate, residual)


class Product:
    """A product and its epilogue for tensors like those of one plan: a call allocates and runs.

    For x [..., K] and operands that `linear_fits` accepts; `run` takes what `fp8_linear` gives the function of a plan.
    """

    def __init__(
        self,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        gelu: bool,
        gate: Tensor | None,
        residual: Tensor | None,
    ):
        shape = (*x.shape[:-1], weight.shape[0])
        self.gelu, self.device, self.out = gelu, x.device, (shape, contiguous_strides(shape))
        self.narrows = scale.numel() == 1 and scale.ndim > 0
        self.run = self.call if self.ready(x, weight, scale, bias, gate, residual) else self.copy_and_call

    @abstractmethod
    def ready(
        self, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, gate: Tensor | None,
        residual: Tensor | None,
    ) -> bool:  # fmt: skip
        """True if the kernel reads these as they are."""

    @abstractmethod
    def call(self, parts, weight, scale, bias, _, gate, residual, __):
        """Runs the kernel."""

    @abstractmethod
    def copy_and_call(self, parts, weight, scale, bias, _, gate, residual, __):
        """Runs the kernel with copies of what it cannot read."""


class FewRowsProduct(Product):
    """`few_rows`."""

    def ready(self, x, weight, scale, bias, gate, residual):
        flat = x if x.is_contiguous() or x.ndim == 2 else None
        dense = all(operand is None or operand.is_contiguous() for operand in (scale, bias, residual))
        aligned_x = flat is not None and aligned_rows(flat) is flat
        return aligned_x and aligned(weight) is weight and dense and (gate is None or rows(gate) is gate)

    def call(self, parts, weight, scale, bias, _, gate, residual, __):
        out = torch.empty_strided(*self.out, dtype=BFLOAT, device=self.device)
        scale = scale.view(()) if self.narrows else scale
        native.module.linear_few_rows(parts[0], weight, scale, bias, gate, residual, out, self.gelu)
        return out

    def copy_and_call(self, parts, weight, scale, bias, _, gate, residual, __):
        return few_rows(parts[0], weight, quantize.one_scale(scale), bias, self.gelu, gate, residual)


class Fp8Product(Product):
    """Quantization of x, whose memory `quantize_rows` can read as rows, and the product."""

    def __init__(self, x: Tensor, weight: Tensor, *others: Any):
        super().__init__(x, weight, *others)
        inner = weight.shape[1]
        count = x.numel() // inner
        self.block = x_block(inner)
        codes, scales = -(-count * inner // 256) * 256, math.prod(scale_shape(count, inner, self.block))
        self.workspace = (codes + 4 * scales,), (1,)

    def ready(self, x, weight, scale, bias, gate, residual):
        operands = x, weight, scale, bias, residual
        return all(aligned(operand) is operand for operand in operands) and (gate is None or even_rows(gate) is gate)

    def call(self, parts, weight, scale, bias, _, gate, residual, __):
        empty, device = torch.empty_strided, self.device
        workspace = empty(*self.workspace, dtype=torch.uint8, device=device)
        out = empty(*self.out, dtype=BFLOAT, device=device)
        scale = scale.view(()) if self.narrows else scale
        native.module.quantized_linear_fp8(
            parts[0], workspace, weight, scale, bias, gate, residual, out, self.block, self.gelu
        )
        return out

    def copy_and_call(self, parts, weight, scale, bias, _, gate, residual, __):
        rows_of_x = quantize_rows(parts[0], self.block)
        return linear_fp8((rows_of_x,), weight, quantize.one_scale(scale), bias, self.gelu, gate, residual)


def epilogue(out: Tensor, gelu: bool, gate: Tensor | None, residual: Tensor | None) -> Tensor:
    """residual + gate * act(out), composed from torch operations."""
    out = F.gelu(out, approximate="tanh") if gelu else out
    out = out if gate is None else gate[:, None] * out
    return out if residual is None else residual + out


def _quantized_linear_fake(x, weight, scale, bias):
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype, device=x.device)


register(
    "fp8_linear(Tensor x, Tensor weight, Tensor scale, Tensor? bias) -> Tensor",
    quantize.fp8_product,
    _quantized_linear_fake,
    autograd.fp8_linear,
)

register(
    "int8_linear(Tensor x, Tensor weight, Tensor scale, Tensor? bias) -> Tensor",
    quantize.int8_product,
    _quantized_linear_fake,
    autograd.int8_linear,
)


def _linear_fp8(x, weight, scale, bias, gelu, gate, residual):
    others = weight, scale, bias, gate, residual
    if takes("linear_fp8", x, *others) and linear_fits(weight, bias, gate, residual):
        return plain_linear(x, weight, scale, bias, gelu, gate, residual)
    out = epilogue(quantize.fp8_product(x, weight, scale, bias), gelu, gate, residual)
    return out.contiguous()


def _linear_fp8_fake(x, weight, scale, bias, gelu, gate, residual):
    dtype = promoted(x, *(other for other in (gate, residual) if other is not None))
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=dtype, device=x.device)


register(
    "linear_fp8(Tensor x, Tensor weight, Tensor scale, Tensor? bias, bool gelu, Tensor? gate, Tensor? residual) "
    "-> Tensor",
    _linear_fp8,
    _linear_fp8_fake,
    autograd.linear_fp8,
)


def _quantize_rows(x: Tensor, block: int) -> tuple[Tensor, Tensor]:
    if takes("linear_fp8", x):
        return quantize_rows(x, block)
    return quantize.quantize_rows(x, block)


def _quantize_rows_fake(x, block):
    count, columns = x.shape[:-1].numel(), x.shape[-1]
    scale = torch.empty(scale_shape(count, columns, block), dtype=FLOAT, device=x.device)
    return torch.empty(x.shape, dtype=E4M3, device=x.device), scale


register("quantize_rows(Tensor x, int block) -> (Tensor, Tensor)", _quantize_rows, _quantize_rows_fake, None)


def _layer_norm_modulate_fp8(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    if takes("linear_fp8", x, shift, scale) and x.dtype == shift.dtype == scale.dtype:
        return layer_norm_modulate_fp8(x, shift, scale, eps)
    return quantize.quantize_rows(reference.layer_norm_modulate(x, shift, scale, eps=eps), 0)


register(
    "layer_norm_modulate_fp8(Tensor x, Tensor shift, Tensor scale, float eps) -> (Tensor, Tensor)",
    _layer_norm_modulate_fp8,
    lambda x, shift, scale, eps: _quantize_rows_fake(x, 0),
    None,
)


def _linear_fp8_rows(codes, scales, weight, scale, bias, gelu, gate, residual):
    parts = [Fp8Rows(*part) for part in zip(codes, scales, strict=True)]
    if _runs(parts, weight, scale, bias, gate, residual):
        return linear_fp8(parts, weight, scale, bias, gelu, gate, residual)
    x = torch.cat([part.decoded(BFLOAT) for part in parts], -1)
    return epilogue(quantize.fp8_product(x, weight, scale, bias), gelu, gate, residual).contiguous()


def _linear_fp8_rows_fake(codes, scales, weight, scale, bias, gelu, gate, residual):
    return torch.empty((*codes[0].shape[:-1], weight.shape[0]), dtype=BFLOAT, device=weight.device)


register(
    "linear_fp8_rows(Tensor[] codes, Tensor[] scales, Tensor weight, Tensor scale, Tensor? bias, bool gelu, "
    "Tensor? gate, Tensor? residual) -> Tensor",
    _linear_fp8_rows,
    _linear_fp8_rows_fake,
    None,
)


def _linear_fp8_quantized(codes, scales, weight, scale, bias, gelu):
    parts = [Fp8Rows(*part) for part in zip(codes, scales, strict=True)]
    if _runs(parts, weight, scale, bias):
        return linear_fp8_quantized(parts, weight, scale, bias, gelu)
    out = _linear_fp8_rows(codes, scales, weight, scale, bias, gelu, None, None)
    return quantize.quantize_rows(out, SCALE_BLOCK)


def _linear_fp8_quantized_fake(codes, scales, weight, scale, bias, gelu):
    return _quantize_rows_fake(_linear_fp8_rows_fake(codes, scales, weight, scale, bias, gelu, None, None), SCALE_BLOCK)


register(
    "linear_fp8_quantized(Tensor[] codes, Tensor[] scales, Tensor weight, Tensor scale, Tensor? bias, bool gelu) "
    "-> (Tensor, Tensor)",
    _linear_fp8_quantized,
    _linear_fp8_quantized_fake,
    None,
)


def _runs(parts: list[Fp8Rows], weight: Tensor, scale: Tensor, *others: Tensor | None) -> bool:
    like = torch.empty((), dtype=BFLOAT, device=weight.device)
    tensors = [tensor for part in parts for tensor in part]
    native = takes("linear_fp8", like, *tensors, weight, scale, *others)
    return native and linear_fits(weight, *others) and parts_fit(parts)
