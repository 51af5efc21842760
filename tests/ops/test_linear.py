"""FP8 quantization, decoding and the linear layer, against the float64 reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_accuracy import DTYPES, LEVELS, assert_error_within, needs_native, poisoned_outputs  # noqa: F401

import hunyuan_ext as ops
from hunyuan_ext import reference
from hunyuan_ext.core import native
from hunyuan_ext.linear import quantize

CODES = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)


@needs_native
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 5, 256, 257, 300, 511])
def test_every_code_is_decoded_exactly(length, dtype, level):
    codes = CODES.repeat(3)[:length].view(1, -1).expand(3, -1).contiguous()
    with native.forced("native", level):
        for scale in (torch.tensor(1.0), torch.tensor(0.37), torch.tensor([[1.0], [-3.5], [1e-3]])):
            out = torch.full(codes.shape, float("nan"), dtype=dtype)
            quantize.decode_fp8(codes, scale, out, 0)
            expected = (codes.float() * scale).to(dtype)
            torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)


@needs_native
@pytest.mark.parametrize("level", LEVELS)
def test_strided_codes_and_block_scales(level):
    codes = torch.randn(200, 600).to(torch.float8_e4m3fn)[:, 100:400]
    scale = torch.rand(2, 3) + 0.5
    out = torch.empty(200, 300)
    with native.forced("native", level):
        quantize.decode_fp8(codes, scale, out, 128)
    assert torch.equal(out, codes.float() * reference.expand_scale(scale, (200, 300)))


def check(x, w8, scale, bias=None, **options):
    def widened(value):
        return value.double() if isinstance(value, torch.Tensor) else value

    exact = reference.fp8_linear(
        x.double(), w8, scale.double(), widened(bias), **{name: widened(value) for name, value in options.items()}
    )
    out = ops.fp8_linear(x, w8, scale, bias, **options)
    assert_error_within(out, exact, reference.fp8_linear(x, w8, scale, bias, **options))


@needs_native
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("granularity", ["row", "tensor", "block"])
def test_error_within_twice_that_of_torch(granularity, dtype, level):
    w8, scale = ops.quantize_fp8(torch.randn(150, 130), granularity=granularity)
    x, bias = torch.randn(2, 7, 130).to(dtype), torch.randn(150).to(dtype)
    gate, residual = torch.randn(2, 150).to(dtype), torch.randn(2, 7, 150).to(dtype)
    with native.forced("native", level):
        check(x, w8, scale)
        check(x, w8, scale, bias)
        check(x, w8, scale, bias, activation="gelu_tanh", gate=gate, residual=residual)
        check(x, w8, scale, gate=gate)
        check(x, w8, scale, residual=residual, activation_quant="none")


@pytest.mark.parametrize("mode", ["native", "reference"])
@pytest.mark.parametrize("granularity", ["row", "tensor", "block"])
def test_many_blocks_of_rows_equal_one(granularity, mode, monkeypatch):
    if mode == "native" and native.module is None:
        pytest.skip("native module absent")
    w8, scale = ops.quantize_fp8(torch.randn(300, 70), granularity=granularity)
    x = torch.randn(5, 70)
    with native.forced(mode):
        whole = ops.fp8_linear(x, w8, scale)
        monkeypatch.setattr(quantize, "DECODED_BYTES", 1)
        assert [(start, stop) for start, stop, _ in quantize.Decoder(w8, scale, torch.float32).blocks(w8, scale)] == [
            (0, 128),
            (128, 256),
            (256, 300),
        ]
        torch.testing.assert_close(ops.fp8_linear(x, w8, scale), whole)


@settings(max_examples=30, deadline=None)
@given(
    leading=st.lists(st.integers(0, 4), max_size=3),
    rows=st.integers(1, 200),
    columns=st.integers(1, 300),
    dtype=st.sampled_from([*DTYPES, torch.float16]),
    granularity=st.sampled_from(["row", "tensor", "block"]),
)
def test_any_shape(leading, rows, columns, dtype, granularity):
    w8, scale = ops.quantize_fp8(torch.randn(rows, columns), granularity=granularity)
    check(torch.randn(*leading, columns).to(dtype), w8, scale, torch.randn(rows).to(dtype))


def test_e5m2_weights():
    w8, scale = ops.quantize_fp8(torch.randn(20, 30), dtype=torch.float8_e5m2)
    check(torch.randn(4, 30), w8, scale)


@pytest.mark.parametrize("granularity", ["row", "tensor", "block"])
def test_quantization_error_is_at_most_half_a_step(granularity):
    w = torch.randn(200, 150)
    w[3] = 0
    w8, scale = ops.quantize_fp8(w, granularity=granularity)
    restored = w8.float() * reference.expand_scale(scale, w.shape)
    assert (restored[3] == 0).all()
    step = torch.maximum(w.abs() / 16, reference.expand_scale(scale, w.shape).expand_as(w) * 2**-9)
    assert ((restored - w).abs() <= step * 1.001).all()
    shapes = {"row": [200, 1], "tensor": [], "block": [2, 2]}
    assert list(scale.shape) == shapes[granularity] and scale.dtype == torch.float32


def test_gradients_reach_x_and_bias_through_blocks(monkeypatch):
    monkeypatch.setattr(quantize, "DECODED_BYTES", 1)
    w8, scale = ops.quantize_fp8(torch.randn(140, 6))
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(140, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, bias: ops.fp8_linear(x, w8, scale, bias, activation="gelu_tanh"), (x, bias)
    )
    out = ops.fp8_linear(x, w8, scale, bias)
    saved = [tensor.numel() for tensor in out.grad_fn.saved_tensors]
    assert max(saved) <= w8.numel()


def test_autocast_casts_x():
    w8, scale = ops.quantize_fp8(torch.randn(9, 8))
    x = torch.randn(3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        out = ops.fp8_linear(x, w8, scale)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, ops.fp8_linear(x.bfloat16(), w8, scale))


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_bfloat16_gemm_the_arithmetic_is_float32(dtype, switches):
    switches.setattr(native, "bfloat16_matmul", lambda: False)
    w8, scale = ops.quantize_fp8(torch.randn(30, 50))
    check(torch.randn(4, 50).to(dtype), w8, scale, torch.randn(30).to(dtype))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(x=torch.zeros(3, 7)), ValueError, "x: its last dimension is 7, but w8 has 8 columns"),
        (dict(x=torch.zeros(3, 8, dtype=torch.int64)), TypeError, "x: a floating-point tensor"),
        (dict(w8=torch.zeros(5, 8)), TypeError, "w8: float8_e4m3fn or float8_e5m2 is needed, got torch.float32"),
        (dict(scale=torch.ones(5, 2)), ValueError, r"scale: shape \[5, 2\] fits no granularity"),
        (dict(scale=2.0), TypeError, "scale: a float32 tensor is needed, got float"),
        (dict(bias=torch.zeros(4)), ValueError, r"bias: shape \[4\].*\[5\]"),
        (dict(gate=torch.zeros(3, 5)), ValueError, r"gate: needs x as \[B, S, K\]"),
        (dict(residual=torch.zeros(3, 4)), ValueError, r"residual: shape \[3, 4\], but \[3, 5\]"),
        (dict(activation="relu"), ValueError, "activation: 'relu' is not one of None, 'gelu_tanh'"),
        (dict(activation_quant="static"), ValueError, "activation_quant: 'static' is not one of"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    w8, scale = ops.quantize_fp8(torch.randn(5, 8))
    with pytest.raises(error, match=message):
        ops.fp8_linear(**dict(x=torch.zeros(3, 8), w8=w8, scale=scale) | arguments)


def test_quantize_names_bad_arguments():
    with pytest.raises(ValueError, match="granularity: 'column' is not one of"):
        ops.quantize_fp8(torch.zeros(2, 2), granularity="column")
    with pytest.raises(ValueError, match="w: shape .* has 1 dimensions"):
        ops.quantize_fp8(torch.zeros(2))
    with pytest.raises(ValueError, match="dtype: torch.int8 is not one of"):
        ops.quantize_fp8(torch.zeros(2, 2), dtype=torch.int8)
