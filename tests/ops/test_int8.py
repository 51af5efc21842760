"""int8_linear and its quantization, against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_accuracy import DTYPES, LEVELS, assert_error_within, needs_native, poisoned_outputs  # noqa: F401

import hunyuan_ext as ops
from hunyuan_ext import reference
from hunyuan_ext.core import native
from hunyuan_ext.linear import cpu, quantize

UNITS = [unit for unit in (cpu.DOT, cpu.AMX) if native.module is not None and native.module.has_linear_unit(unit, True)]


@pytest.fixture(params=UNITS, ids=[cpu.NAMES[unit] for unit in UNITS])
def unit(request, monkeypatch):
    monkeypatch.setattr(cpu, "TABLE", [row for row in cpu.TABLE if row.unit == request.param])
    with native.forced("native"):
        yield request.param


def on_grid(*shape):
    """Rows that int8 represents exactly, so that no rounding tie decides: integers up to 127 times a power of two."""
    codes = torch.randint(-127, 128, shape).float()
    codes[..., :1] = 127
    return codes * torch.tensor([2.0**-7, 2.0**-3]).repeat(shape[0] * shape[1])[: shape[0] * shape[1]].view(
        *shape[:2], 1
    )


def check(x, w8, scale, bias, **options):
    def widened(value):
        return value.double() if isinstance(value, torch.Tensor) else value

    wide = {name: widened(value) for name, value in options.items()}
    exact = reference.int8_linear(x.double(), w8, scale, bias.double(), **wide)
    out = ops.int8_linear(x, w8, scale, bias, **options)
    assert_error_within(out, exact, reference.int8_linear(x, w8, scale, bias, **options))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 64, 32), (2, 37, 130, 70), (1, 100, 1000, 33), (1, 20, 8300, 40)], ids=str)
def test_error_within_twice_that_of_torch(shape, dtype, unit):
    batch, tokens, columns, rows = shape
    w8, scale = ops.quantize_int8(torch.randn(rows, columns) * columns**-0.5)
    x, bias = on_grid(batch, tokens, columns).to(dtype), torch.randn(rows).to(dtype)
    gate, residual = torch.randn(batch, rows).to(dtype), torch.randn(batch, tokens, rows).to(dtype)
    check(x, w8, scale, bias)
    check(x, w8, scale, bias, activation="gelu_tanh", gate=gate, residual=residual)
    halves = x[..., : columns // 2], x[..., columns // 2 :]
    assert torch.equal(ops.int8_linear(halves, w8, scale, bias), ops.int8_linear(x, w8, scale, bias))


@settings(max_examples=25, deadline=None)
@given(
    leading=st.lists(st.integers(0, 40), max_size=2),
    columns=st.integers(1, 200),
    rows=st.integers(1, 100),
    dtype=st.sampled_from([*DTYPES, torch.float16]),
)
def test_any_shape_is_as_close_as_its_quantization(leading, columns, rows, dtype):
    x, w = torch.randn(*leading, columns).to(dtype), torch.randn(rows, columns)
    w8, scale = ops.quantize_int8(w)
    out = ops.int8_linear(x, w8, scale)
    exact = x.double() @ (w8.double() * scale.double()).T
    amax = x.double().abs().amax(-1, keepdim=True)
    allowed = amax / 254 * 1.001 * (w8.double() * scale.double()).abs().sum(1) + exact.abs() * torch.finfo(dtype).eps
    assert out.shape == exact.shape and ((out.double() - exact).abs() <= allowed + 1e-6).all()


@needs_native
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [(1,), (33,), (64, 31), (300,)])
def test_rows_are_quantized_to_nearest(columns, dtype, level):
    parts = tuple(torch.randn(2, 9, count).to(dtype) for count in columns)
    parts[0][0, 0] = 0
    for plus in (False, True):
        codes, scale = torch.empty(18, sum(columns), dtype=torch.int8), torch.empty(18)
        with native.forced("native", level):
            native.module.quantize_int8(parts, codes, scale, plus, 1)
        values = codes.view(torch.uint8).int() - 128 if plus else codes.int()
        x = torch.cat(parts, -1).view(18, -1).double()
        assert ((values * scale[:, None].double() - x).abs() <= scale[:, None].double() * 0.50001).all()
        torch.testing.assert_close(scale, torch.where(x.abs().amax(1) == 0, 1, x.abs().amax(1) / 127).float())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_spoil_their_row_only(value, unit):
    w8, scale = ops.quantize_int8(torch.ones(32, 32))
    x = torch.ones(2, 32)
    x[0, 3] = value
    out = ops.int8_linear(x, w8, scale)
    assert out[0].isnan().all() and torch.allclose(out[1], torch.full((32,), 32.0))


def test_gradients_pass_straight_through():
    w8, scale = ops.quantize_int8(torch.randn(6, 8))
    x, bias = torch.randn(3, 8, requires_grad=True), torch.randn(6, requires_grad=True)
    ops.int8_linear(x, w8, scale, bias).sum().backward()
    torch.testing.assert_close(x.grad, (w8 * scale).sum(0).expand(3, -1))
    torch.testing.assert_close(bias.grad, torch.full((6,), 3.0))


def test_weights_are_quantized_by_rows():
    w = torch.randn(20, 30)
    w[4] = 0
    w8, scale = ops.quantize_int8(w)
    assert w8.dtype == torch.int8 and scale.shape == (20, 1) and scale[4] == 1
    assert ((w8 * scale - w).abs() <= scale * 0.50001).all() and w8.abs().amax() == 127


def test_composed_form_has_exact_sums():
    w8, scale = torch.full((4, 20000), 127, dtype=torch.int8), torch.ones(4, 1)
    x = torch.ones(17, 20000)
    assert torch.equal(quantize.composed_int8_product(x, w8, scale, None), torch.full((17, 4), 20000.0 * 127))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(w8=torch.zeros(5, 8)), TypeError, "w8: an int8 tensor"),
        (dict(scale=torch.ones(5)), ValueError, r"scale: shape \[5\], but \[5, 1\]"),
        (dict(x=torch.zeros(3, 7)), ValueError, "x: its last dimension is 7, but w8 has 8 columns"),
        (dict(bias=torch.zeros(4)), ValueError, r"bias: shape \[4\]"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    w8, scale = ops.quantize_int8(torch.randn(5, 8))
    with pytest.raises(error, match=message):
        ops.int8_linear(**dict(x=torch.zeros(3, 8), w8=w8, scale=scale) | arguments)
    with pytest.raises(ValueError, match="w: shape .* has 1 dimensions"):
        ops.quantize_int8(torch.zeros(2))
