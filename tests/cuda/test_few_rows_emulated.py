"""The CUDA kernel for few rows, run by the emulator: every code, ragged sizes, epilogues, the same bits always."""

from __future__ import annotations

import pytest
import torch
from emulated import kernels
from test_gemm_emulated import E4M3, NAN, assert_rounded_once, expected, quantize


def few_rows(x, w8, scale, *, bias=None, gate=None, residual=None, gelu=False, tokens=1, seed=0):
    out = torch.full((x.shape[0], w8.shape[0]), NAN).bfloat16()
    kernels().call(
        "linear_few_rows", seed, x=x, weight=w8, weight_scale=scale, bias=bias, gate=gate, residual=residual, out=out,
        rows=x.shape[0], in_columns=w8.shape[1], out_columns=w8.shape[0], x_row_stride=x.stride(0), tokens=tokens,
        gate_stride=0 if gate is None else gate.stride(0), scale_per_row=int(scale.ndim > 0), gelu=int(gelu),
    )  # fmt: skip
    return out


def test_every_code_is_decoded_exactly():
    """A product with the unit matrix gives the weight itself."""
    codes = torch.arange(256, dtype=torch.uint8).view(16, 16).view(E4M3)
    codes = torch.where(codes.float().isnan(), torch.zeros(16, 16), codes.float()).to(E4M3)
    out = few_rows(torch.eye(16).bfloat16(), codes, torch.tensor(1.0))
    assert out.equal(codes.bfloat16().T)


@pytest.mark.parametrize("rows", [1, 8, 9, 16])
@pytest.mark.parametrize(("inner", "columns"), [(16, 16), (592, 48), (1104, 80), (144, 240), (144, 720)])
def test_products(rows, inner, columns):
    x = torch.randn(rows, inner).bfloat16()
    w8, scale = quantize((torch.randn(columns, inner) / inner**0.5).bfloat16())
    exact = expected(x.double(), w8.double() * scale.double()[:, None])
    assert_rounded_once(few_rows(x, w8, scale), exact)
    assert_rounded_once(few_rows(x, w8, scale[0]), expected(x.double(), w8.double() * scale[0].double()))


@pytest.mark.parametrize("gelu", [False, True])
def test_epilogue(gelu):
    wide = torch.randn(6, 400).bfloat16()
    x, (w8, scale) = wide[:, 16:336], quantize((torch.randn(32, 320) / 18).bfloat16())  # rows apart
    bias, residual = torch.randn(32).bfloat16(), torch.randn(6, 32).bfloat16()
    gate = torch.randn(2, 64).bfloat16()[:, :32]
    options = dict(bias=bias, gate=gate, residual=residual, gelu=gelu, tokens=3)
    out = few_rows(x, w8, scale, **options)
    assert_rounded_once(out, expected(x.double(), w8.double() * scale.double()[:, None], **options))
    assert all(few_rows(x, w8, scale, seed=seed, **options).equal(out) for seed in (1, 2))
