"""torch.library registration of the linear layers with one-byte weights, as in _library.py.

What is made of codes has no gradient: where one is wanted, activations stay plain.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_ext import _cuda, _fp8, _int8, reference
from hunyuan_ext._backend import runs_native
from hunyuan_ext._library import promoted, register
from hunyuan_ext._types import Fp8Rows


def quantised_linear_fake(x, weight, scale, bias):
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype, device=x.device)


register(
    "fp8_linear(Tensor x, Tensor weight, Tensor scale, Tensor? bias) -> Tensor",
    _fp8.linear,
    quantised_linear_fake,
    _fp8.linear_gradient,
)

register(
    "int8_linear(Tensor x, Tensor weight, Tensor scale, Tensor? bias) -> Tensor",
    _int8.linear,
    quantised_linear_fake,
    _int8.linear_gradient,
)


def linear_fp8(x, weight, scale, bias, gelu, gate, residual):
    others = weight, scale, bias, gate, residual
    if runs_native("linear_fp8", x, *others) and _cuda.linear_fits(weight, bias, gate, residual):
        rows = _cuda.quantize_rows(x, _cuda.x_block(x.shape[-1]))
        return _cuda.linear_fp8((rows,), weight, scale, bias, gelu, gate, residual)
    out = _fp8.epilogue(_fp8.linear(x, weight, scale, bias), gelu, gate, residual)
    return out.contiguous()


def linear_fp8_fake(x, weight, scale, bias, gelu, gate, residual):
    dtype = promoted(x, *(other for other in (gate, residual) if other is not None))
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=dtype, device=x.device)


register(
    "linear_fp8(Tensor x, Tensor weight, Tensor scale, Tensor? bias, bool gelu, Tensor? gate, Tensor? residual) "
    "-> Tensor",
    linear_fp8,
    linear_fp8_fake,
    _fp8.epilogue_gradient,
)


def quantize_rows(x: Tensor, block: int) -> tuple[Tensor, Tensor]:
    if runs_native("linear_fp8", x):
        return _cuda.quantize_rows(x, block)
    return _fp8.quantize_rows(x, block)


def quantize_rows_fake(x, block):
    count, columns = x.shape[:-1].numel(), x.shape[-1]
    scale = torch.empty(_cuda.scale_shape(count, columns, block), dtype=torch.float32, device=x.device)
    return torch.empty(x.shape, dtype=_cuda.E4M3, device=x.device), scale


register("quantize_rows(Tensor x, int block) -> (Tensor, Tensor)", quantize_rows, quantize_rows_fake, None)


def layer_norm_modulate_fp8(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    if runs_native("linear_fp8", x, shift, scale) and x.dtype == shift.dtype == scale.dtype:
        return _cuda.layer_norm_modulate_fp8(x, shift, scale, eps)
    return _fp8.quantize_rows(reference.layer_norm_modulate(x, shift, scale, eps=eps), 0)


register(
    "layer_norm_modulate_fp8(Tensor x, Tensor shift, Tensor scale, float eps) -> (Tensor, Tensor)",
    layer_norm_modulate_fp8,
    lambda x, shift, scale, eps: quantize_rows_fake(x, 0),
    None,
)


def linear_fp8_rows(codes, scales, weight, scale, bias, gelu, gate, residual):
    parts = [Fp8Rows(*part) for part in zip(codes, scales, strict=True)]
    if _native(parts, weight, scale, bias, gate, residual):
        return _cuda.linear_fp8(parts, weight, scale, bias, gelu, gate, residual)
    x = torch.cat([part.decoded(torch.bfloat16) for part in parts], -1)
    return _fp8.epilogue(_fp8.linear(x, weight, scale, bias), gelu, gate, residual).contiguous()


def linear_fp8_rows_fake(codes, scales, weight, scale, bias, gelu, gate, residual):
    return torch.empty((*codes[0].shape[:-1], weight.shape[0]), dtype=torch.bfloat16, device=weight.device)


register(
    "linear_fp8_rows(Tensor[] codes, Tensor[] scales, Tensor weight, Tensor scale, Tensor? bias, bool gelu, "
    "Tensor? gate, Tensor? residual) -> Tensor",
    linear_fp8_rows,
    linear_fp8_rows_fake,
    None,
)


def linear_fp8_quantised(codes, scales, weight, scale, bias, gelu):
    parts = [Fp8Rows(*part) for part in zip(codes, scales, strict=True)]
    if _native(parts, weight, scale, bias):
        return _cuda.linear_fp8_quantised(parts, weight, scale, bias, gelu)
    out = linear_fp8_rows(codes, scales, weight, scale, bias, gelu, None, None)
    return _fp8.quantize_rows(out, _cuda.SCALE_BLOCK)


def linear_fp8_quantised_fake(codes, scales, weight, scale, bias, gelu):
    return quantize_rows_fake(linear_fp8_rows_fake(codes, scales, weight, scale, bias, gelu, None, None), 128)


register(
    "linear_fp8_quantised(Tensor[] codes, Tensor[] scales, Tensor weight, Tensor scale, Tensor? bias, bool gelu) "
    "-> (Tensor, Tensor)",
    linear_fp8_quantised,
    linear_fp8_quantised_fake,
    None,
)


def _native(parts: list[Fp8Rows], weight: Tensor, scale: Tensor, *others: Tensor | None) -> bool:
    like = torch.empty((), dtype=torch.bfloat16, device=weight.device)
    tensors = [one for part in parts for one in part]
    native = runs_native("linear_fp8", like, *tensors, weight, scale, *others)
    return native and _cuda.linear_fits(weight, *others) and _cuda.parts_fit(parts)
