"""layer_norm_modulate and gate_residual: every instruction set against the float64 reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_accuracy import DTYPES, LEVELS, assert_error_within, needs_native, poisoned_outputs  # noqa: F401

import hunyuan_ext as ops
from hunyuan_ext import reference
from hunyuan_ext.core import native

SHAPES = [(1, 1, 1), (2, 5, 3), (1, 7, 16), (3, 1, 33), (2, 257, 160), (1, 3, 3072), (0, 4, 8), (2, 0, 8), (2, 3, 0)]


def make(shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    batch, tokens, channels = shape
    x = (torch.randn(shape, generator=generator) * 3 + 1.5).to(dtype)
    y = torch.randn(shape, generator=generator).to(dtype)
    shift, scale, gate = torch.randn(batch, 3 * channels, generator=generator).to(dtype).chunk(3, -1)
    return x, y, shift, scale, gate


def check(shape, dtype, level, seed=0):
    x, y, shift, scale, gate = make(shape, dtype, seed)
    with native.forced("native", level):
        modulated = ops.layer_norm_modulate(x, shift, scale)
        gated = ops.gate_residual(x, y, gate)
    exact = reference.layer_norm_modulate(x.double(), shift.double(), scale.double())
    assert_error_within(modulated, exact, reference.layer_norm_modulate(x, shift, scale))
    exact = reference.gate_residual(x.double(), y.double(), gate.double())
    assert_error_within(gated, exact, reference.gate_residual(x, y, gate))


@needs_native
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[2]])
def test_error_within_twice_that_of_torch(shape, dtype, level):
    check(shape, dtype, level)


@needs_native
@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 150)),
    dtype=st.sampled_from(DTYPES),
    level=st.sampled_from(LEVELS),
    seed=st.integers(0, 1000),
)
def test_any_shape(shape, dtype, level, seed):
    check(shape, dtype, level, seed)


@needs_native
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_mean_keeps_its_digits(dtype, level):
    x = (torch.randn(1, 4, 512, generator=torch.Generator().manual_seed(0)) + 1000).to(dtype)
    shift, scale = torch.zeros(1, 512, dtype=dtype), torch.zeros(1, 512, dtype=dtype)
    exact = reference.layer_norm_modulate(x.double(), shift.double(), scale.double())
    with native.forced("native", level):
        out = ops.layer_norm_modulate(x, shift, scale)
    assert_error_within(out, exact, reference.layer_norm_modulate(x, shift, scale))


@needs_native
@pytest.mark.parametrize("level", LEVELS)
def test_non_contiguous_inputs_equal_contiguous_ones(level):
    wide = torch.randn(4, 6, 80)
    views = {
        "every second token": wide[:, ::2, :40],
        "every second channel": wide[:, :3, ::2],
        "transposed": wide.transpose(0, 1)[:4, :3, :40],
        "expanded": wide[:1, :1, :40].expand(4, 3, 40),
    }
    vector = torch.randn(40, 4).T
    with native.forced("native", level):
        for name, x in views.items():
            out = ops.layer_norm_modulate(x, vector, vector)
            assert torch.equal(
                out, ops.layer_norm_modulate(x.contiguous(), vector.contiguous(), vector.contiguous())
            ), name
            out = ops.gate_residual(x, x, vector)
            assert torch.equal(out, ops.gate_residual(x.contiguous(), x.contiguous(), vector.contiguous())), name


@needs_native
@pytest.mark.parametrize("dtype", DTYPES)
def test_result_does_not_depend_on_threads_or_batch(dtype):
    x, y, shift, scale, gate = make((3, 200, 160), dtype)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((ops.layer_norm_modulate(x, shift, scale), ops.gate_residual(x, y, gate)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert torch.equal(results[0][0], other[0]) and torch.equal(results[0][1], other[1])
    assert torch.equal(results[0][0][1:2], ops.layer_norm_modulate(x[1:2], shift[1:2], scale[1:2]))


def every_bfloat16():
    return torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)


@needs_native
@pytest.mark.parametrize("level", LEVELS)
def test_every_bfloat16_comes_back_as_it_is(level):
    values = every_bfloat16()[None]
    zeros, ones = torch.zeros_like(values), torch.ones(1, 1, 1 << 16, dtype=torch.bfloat16)
    with native.forced("native", level):
        outs = ops.gate_residual(values[None], zeros[None], zeros), ops.layer_norm_modulate(ones, values, zeros)
    for out in outs:
        assert torch.equal(out[0].isnan(), values.isnan())
        assert torch.equal(out[0][~values.isnan()], values[~values.isnan()])


@needs_native
@pytest.mark.parametrize("level", LEVELS)
def test_halves_are_rounded_to_even(level):
    steps = torch.arange(-256, 256) / 128  # two bits fewer than float32 sums of such values have
    scale, shift = torch.cartesian_prod(steps, torch.tensor([1 / 256, -1 / 256, 1 / 512, 3 / 512])).T.bfloat16()
    scale, shift = scale.contiguous()[None], shift.contiguous()[None]
    x = torch.tensor([1.0, -1.0]).repeat(1, 5, scale.shape[1] // 2).bfloat16()  # mean 0 and variance 1, exactly
    with native.forced("native", level):
        modulated = ops.layer_norm_modulate(x, shift, scale, eps=1e-30)
        gated = ops.gate_residual(shift[:, None], scale[:, None], torch.ones_like(scale))
    assert torch.equal(modulated, (x.float() * (1 + scale.float()) + shift.float()).bfloat16())
    assert torch.equal(gated[:, 0], (scale.float() + shift.float()).bfloat16())


@needs_native
def test_nan_and_infinity_stay_in_their_row():
    x = torch.randn(1, 3, 40).bfloat16()
    x[0, 1, 7] = float("nan")
    zeros = torch.zeros(1, 40, dtype=torch.bfloat16)
    out = ops.layer_norm_modulate(x, zeros, zeros)
    assert out[0, 1].isnan().all() and not out[0, 0].isnan().any() and not out[0, 2].isnan().any()
    assert ops.gate_residual(x, x, zeros)[0, 1].isnan().sum() == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_dtypes_are_composed(dtype):
    x, y, shift, scale, gate = make((2, 3, 20), dtype)
    assert torch.equal(ops.layer_norm_modulate(x, shift, scale), reference.layer_norm_modulate(x, shift, scale))
    assert torch.equal(ops.gate_residual(x, y, gate), reference.gate_residual(x, y, gate))


def test_mixed_dtypes_promote_like_torch():
    x, y, shift, scale, gate = make((2, 3, 20), torch.bfloat16)
    assert ops.layer_norm_modulate(x, shift.float(), scale.float()).dtype == torch.float32
    assert ops.gate_residual(x.float(), y, gate).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x, v: ops.layer_norm_modulate(x[0], v, v),
            ValueError,
            r"x: shape \[3, 8\] has 2 dimensions, \[B, S, C\]",
        ),
        (lambda x, v: ops.layer_norm_modulate(x, v[:, :7], v), ValueError, r"shift: shape \[2, 7\].*\[2, 8\]"),
        (lambda x, v: ops.layer_norm_modulate(x, v, v[:1]), ValueError, r"scale: shape \[1, 8\].*\[2, 8\]"),
        (lambda x, v: ops.layer_norm_modulate(x.long(), v, v), TypeError, "x: a floating-point tensor.*int64"),
        (lambda x, v: ops.layer_norm_modulate(x, v, 1.0), TypeError, "scale: a torch.Tensor.*float"),
        (lambda x, v: ops.layer_norm_modulate(x, v, v, eps=-1.0), ValueError, "eps: must be positive, got -1.0"),
        (lambda x, v: ops.layer_norm_modulate(x, v.to("meta"), v), ValueError, "shift: is on meta.*cpu"),
        (lambda x, v: ops.gate_residual(x, x[:, :2], v), ValueError, r"y: shape \[2, 2, 8\].*\[2, 3, 8\]"),
        (lambda x, v: ops.gate_residual(x, x, v[0]), ValueError, r"gate: shape \[8\] has 1 dimensions"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.randn(2, 3, 8), torch.randn(2, 8))
