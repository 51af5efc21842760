"""FP8 products on a device, each way to finish, at sizes of many tiles with ragged edges, against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hunyuan_ext.core.types import Fp8Rows
from hunyuan_ext.linear import cuda, quantize

# rows, K, N: whole and ragged tiles of every kernel; N % 32, 128, 192 and 256 differ; the last one is promoted
SIZES = [(700, 512, 416), (2304, 3072, 1152), (1000, 256, 144), (515, 8192, 384)]


def randn(*shape, dtype=torch.bfloat16):
    return torch.randn(shape, device="cuda").to(dtype)


def operands(rows: int, inner: int, columns: int, block: int):
    x = cuda.quantize_rows(randn(1, rows, inner), block)
    weight = quantize.quantize_rows((randn(columns, inner) * inner**-0.5), 0)
    wide = x.scale.double()
    wide = wide.T.repeat_interleave(128, 1)[:, :inner] if block else wide[:, None]
    exact = (x.codes[0].double() * wide) @ (weight.codes.double() * weight.scale.double()[:, None]).T
    return x, weight.codes, weight.scale[:, None].contiguous(), exact


def assert_near(out: torch.Tensor, exact: torch.Tensor, share: float):
    error = (out.double() - exact).norm() / exact.norm()
    assert error <= share, float(error)
    assert torch.isfinite(out.double()).all()


@pytest.mark.parametrize("block", [0, 128])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_fp8_bias_and_gelu(size, block):
    x, codes, scale, exact = operands(*size, block)
    bias = randn(size[2])
    exact = exact + bias.double()
    assert_near(cuda.linear_fp8((x,), codes, scale, bias, False, None, None)[0], exact, 5e-3)
    gelu = F.gelu(exact, approximate="tanh")
    assert_near(cuda.linear_fp8((x,), codes, scale, bias, True, None, None)[0], gelu, 5e-3)


@pytest.mark.parametrize("block", [0, 128])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_fp8_gate_and_residual(size, block):
    x, codes, scale, exact = operands(*size, block)
    bias, gate, residual = randn(size[2]), randn(1, size[2]), randn(1, size[0], size[2])
    exact = residual[0].double() + gate.double() * (exact + bias.double())
    assert_near(cuda.linear_fp8((x,), codes, scale, bias, False, gate, residual)[0], exact, 5e-3)


@pytest.mark.parametrize("block", [0, 128])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_fp8_quantized_output(size, block):
    x, codes, scale, exact = operands(*size, block)
    out = cuda.linear_fp8_quantized((x,), codes, scale, randn(size[2]).zero_(), True)
    spread = out.scale.double().T.repeat_interleave(128, 1)[:, : size[2]]
    assert_near(out.codes[0].double() * spread, F.gelu(exact, approximate="tanh"), 4e-2)


def test_fp8_products_repeat_bit_for_bit():
    x, codes, scale, _ = operands(3000, 3072, 768, 0)
    first, second = (cuda.linear_fp8((Fp8Rows(*x),), codes, scale, None, False, None, None) for _ in range(2))
    assert torch.equal(first, second)
