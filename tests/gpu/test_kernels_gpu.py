"""Norms, linear layers and convolutions on a device: the correctness rule, odd sizes, more than 2^31 elements."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from op_accuracy import assert_error_within

import hunyuan_ext as ops
from benchmarks.gpu.smoke import CASES, ERROR, FP8_ERROR, error_of
from hunyuan_ext import reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LAST = torch.channels_last_3d


def randn(*shape, dtype=torch.bfloat16):
    return torch.randn(shape, device="cuda").to(dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op} {case.case.name}")
def test_smoke(case):
    """Correct results of the calls that compute-sanitizer watches."""
    assert error_of(case, "cuda") <= (FP8_ERROR if case.label == "fp8" else ERROR)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 37, 3072), (1, 1, 8), (3, 5, 131)])
def test_token_norms(dtype, shape):
    x, y = randn(*shape, dtype=dtype), randn(*shape, dtype=dtype)
    shift, scale, gate = (randn(shape[0], shape[2], dtype=dtype) for _ in range(3))
    for op, arguments in (("layer_norm_modulate", (x, shift, scale)), ("gate_residual", (x, y, gate))):
        exact = getattr(reference, op)(*(tensor.double() for tensor in arguments))
        assert_error_within(getattr(ops, op)(*arguments), exact, getattr(reference, op)(*arguments))


@pytest.mark.parametrize("dtype", DTYPES)
def test_qk_norm_rope(dtype):
    q, k, v = randn(2, 77, 3, 5, 128, dtype=dtype).unbind(2)
    rope = torch.randn(2, 66, 128, device="cuda").unbind(0)
    norms = [1 + 0.1 * randn(128, dtype=dtype) for _ in range(4)]
    out = torch.ops.hunyuan_ext.qk_norm_rope(q, k, *norms, *rope, 11, 1e-6)
    for x, result, norm, text in ((q, out[0], norms[0], norms[2]), (k, out[1], norms[1], norms[3])):
        exact = reference.qk_norm_rope(
            x.double(), tuple(t.double() for t in rope), norm.double(), text.double(), 11, 1e-6
        )
        plain = reference.qk_norm_rope(x, rope, norm, text, 11, 1e-6)
        assert_error_within(result.transpose(1, 2), exact, plain.to(dtype))


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize(("channels", "out"), [(3, 16), (128, 128), (48, 512)])
def test_conv(layout, stride, channels, out):
    x = randn(1, channels, 5, 18, 14).contiguous(memory_format=layout)
    weight = (randn(out, channels, 3, 3, 3) * (27 * channels) ** -0.5).contiguous(memory_format=layout)
    bias = randn(out)
    exact = reference.causal_conv3d(x.double(), weight.double(), bias.double(), stride=stride)
    plain = reference.causal_conv3d(x, weight, bias, stride=stride)
    assert_error_within(ops.causal_conv3d(x, weight, bias, stride=stride), exact, plain)


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
def test_group_norm(layout):
    x = randn(2, 128, 5, 19, 23).contiguous(memory_format=layout)
    weight, bias = randn(128), randn(128)
    exact = reference.group_norm_silu(x.double(), weight.double(), bias.double(), pad=(2, 1, 1))
    plain = reference.group_norm_silu(x, weight, bias, pad=(2, 1, 1))
    assert_error_within(ops.group_norm_silu(x, weight, bias, pad=(2, 1, 1)), exact, plain)


@pytest.mark.parametrize("rows", [1, 7, 16])
@pytest.mark.parametrize(("inner", "outer"), [(256, 144), (3072, 9216), (12304, 3072)])
def test_linear_of_few_rows(rows, inner, outer):
    """Weights decoded in registers, x as it is: one rounding to bfloat16; the same bits every time."""
    x, bias, gate, residual = randn(1, rows, inner), randn(outer), randn(1, outer), randn(1, rows, outer)
    codes, scale = ops.quantize_fp8(randn(outer, inner) * inner**-0.5)
    options = dict(activation="gelu_tanh", gate=gate, residual=residual)
    out = ops.fp8_linear(x, codes, scale, bias, **options)
    exact = F.gelu(F.linear(x.double(), codes.double() * scale.double(), bias.double()), approximate="tanh")
    exact = residual.double() + gate.double() * exact
    assert ((out - exact).abs() <= exact.abs() * 2.0**-8 + 1e-4 * exact.abs().max()).all()
    assert torch.equal(out, ops.fp8_linear(x, codes, scale, bias, **options))


@pytest.mark.parametrize("rows", [1, 130, 1021])
@pytest.mark.parametrize(("inner", "outer"), [(256, 144), (3072, 256), (8192, 128)])
def test_linear(rows, inner, outer):
    """W8A8: within 1.5 times the error that rounding weights and rows of x to e4m3 makes."""
    x, weight, bias = randn(1, rows, inner), randn(outer, inner) * inner**-0.5, randn(outer)
    codes, scale = ops.quantize_fp8(weight)
    exact = F.linear(x.double(), codes.double() * scale.double(), bias.double())
    rounded, row_scale = reference.quantize_fp8(x[0])
    floor = F.linear(rounded.double() * row_scale, codes.double() * scale.double(), bias.double())
    error, least = ((out.double() - exact).norm() for out in (ops.fp8_linear(x, codes, scale, bias), floor[None]))
    assert error <= 1.5 * least + 4e-3 * exact.norm()


def test_more_than_2_31_elements():
    """The last rows of a tensor whose indices do not fit in 32 bits."""
    tokens, width = 710_000, 3072
    if torch.cuda.mem_get_info()[0] < 20e9:
        pytest.skip("needs 20 GB of device memory")
    x = torch.randn(1, 1000, width, device="cuda", dtype=torch.bfloat16).repeat(1, tokens // 1000, 1)
    vectors = [randn(1, width) for _ in range(2)]
    out = ops.layer_norm_modulate(x, *vectors)
    assert out.numel() > 2**31
    assert torch.equal(out[:, -1000:], ops.layer_norm_modulate(x[:, -1000:], *vectors))
    out = ops.gate_residual(x, x, vectors[0])
    assert torch.equal(out[:, -1000:], ops.gate_residual(x[:, -1000:], x[:, -1000:], vectors[0]))
