"""group_norm_silu with padding, both memory formats, every instruction set, against the float64 reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_accuracy import DTYPES, LEVELS, assert_error_within, needs_native, poisoned_outputs  # noqa: F401

import hunyuan_ext as ops
from hunyuan_ext import reference
from hunyuan_ext.core import native

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


def check(shape, groups, dtype, level, layout, silu=True, pad=(0, 0, 0), seed=0, offset=1.0):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=generator) * 2 + offset).to(dtype).to(memory_format=layout)
    weight, bias = torch.randn(2, shape[1], generator=generator).to(dtype)
    with native.forced("native", level):
        out = ops.group_norm_silu(x, weight, bias, groups=groups, silu=silu, pad=pad)
    arguments = dict(groups=groups, silu=silu, pad=pad)
    exact = reference.group_norm_silu(x.double(), weight.double(), bias.double(), **arguments)
    assert_error_within(out, exact, reference.group_norm_silu(x, weight, bias, **arguments))
    if x.numel() and not x.is_contiguous():
        assert out.is_contiguous(memory_format=layout)


@needs_native
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "groups", "pad"),
    [
        ((1, 32, 3, 5, 7), 32, (2, 1, 1)),
        ((2, 24, 2, 4, 6), 4, (0, 0, 0)),
        ((1, 6, 1, 1, 1), 3, (2, 1, 1)),
        ((1, 8, 4, 33, 17), 2, (2, 1, 1)),
        ((2, 130, 1, 3, 2), 10, (1, 0, 2)),
        ((1, 4, 5, 64, 64), 2, (2, 0, 0)),
    ],
)
def test_error_within_twice_that_of_torch(shape, groups, pad, layout, dtype, level):
    check(shape, groups, dtype, level, layout, pad=pad)
    check(shape, groups, dtype, level, layout, silu=False)


@needs_native
@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(1, 6), st.integers(1, 9)),
    group=st.tuples(st.integers(1, 5), st.integers(1, 9)),
    pad=st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)),
    dtype=st.sampled_from(DTYPES),
    level=st.sampled_from(LEVELS),
    layout=st.sampled_from(LAYOUTS),
    silu=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_shape(size, group, pad, dtype, level, layout, silu, seed):
    batch, frames, height, width = size
    groups, each = group
    check((batch, groups * each, frames, height, width), groups, dtype, level, layout, silu, pad, seed)


@needs_native
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("level", LEVELS)
def test_large_mean_keeps_its_digits(layout, level):
    check((1, 16, 2, 20, 20), 4, torch.float32, level, layout, silu=False, offset=1000.0)


@needs_native
@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_far_out_on_the_sigmoid(layout):
    x = torch.linspace(-200, 200, 4096).view(1, 2, 2, 32, 32).to(memory_format=layout)
    weight, bias = torch.tensor([60.0, 60.0]), torch.zeros(2)
    for level in LEVELS:
        with native.forced("native", level):
            out = ops.group_norm_silu(x, weight, bias, groups=1)
        exact = reference.group_norm_silu(x.double(), weight.double(), bias.double(), groups=1)
        assert_error_within(out, exact, reference.group_norm_silu(x, weight, bias, groups=1))


@needs_native
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_result_does_not_depend_on_threads(layout, dtype):
    x = torch.randn(2, 16, 3, 40, 40).to(dtype).to(memory_format=layout)
    weight, bias = torch.randn(2, 16).to(dtype)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            with native.forced("native"):
                results.append(ops.group_norm_silu(x, weight, bias, groups=4, pad=(2, 1, 1)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results)


@needs_native
def test_slices_and_permutations_equal_contiguous_tensors():
    wide = torch.randn(2, 8, 4, 6, 10)
    last = wide.to(memory_format=torch.channels_last_3d)
    views = [wide[:, :, 1:3], wide[..., ::2], wide.transpose(2, 4), last[:, :, 1:], last[:, :, :, ::2], last[:, 2:6]]
    with native.forced("native"):
        for x in views:
            vectors = torch.randn(2, x.shape[1])
            out = ops.group_norm_silu(x, *vectors, groups=2, pad=(1, 1, 1))
            torch.testing.assert_close(out, reference.group_norm_silu(x, *vectors, groups=2, pad=(1, 1, 1)))


@needs_native
def test_affine_may_be_absent_or_float32():
    x = torch.randn(1, 8, 2, 3, 3).bfloat16()
    weight, bias = torch.randn(2, 8)
    with native.forced("native"):
        for pair in ((None, None), (weight, None), (None, bias), (weight, bias)):
            wide = [None if vector is None else vector.double() for vector in pair]
            exact = reference.group_norm_silu(x.double(), *wide, groups=2)
            narrow = [None if vector is None else vector.float() for vector in pair]
            baseline = reference.group_norm_silu(x.float(), *narrow, groups=2).bfloat16()
            assert_error_within(ops.group_norm_silu(x, *pair, groups=2), exact, baseline)


def test_small_volumes_are_left_to_torch_in_auto_mode():
    x, weight, bias = torch.randn(1, 8, 2, 4, 4), torch.randn(8), torch.randn(8)
    assert torch.equal(
        ops.group_norm_silu(x, weight, bias, groups=2), reference.group_norm_silu(x, weight, bias, groups=2)
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(groups=3), ValueError, "groups: 3 does not divide the 8 channels"),
        (dict(groups=0), ValueError, "groups: 0 does not divide"),
        (dict(pad=(1, 1)), ValueError, r"pad: three counts.*\(1, 1\)"),
        (dict(pad=(1, -1, 0)), ValueError, "pad: .*not negative"),
        (dict(eps=0.0), ValueError, "eps: must be positive"),
        (dict(weight=torch.zeros(7)), ValueError, r"weight: shape \[7\].*\[8\]"),
        (dict(bias=torch.zeros(8, dtype=torch.int32)), TypeError, "bias: a floating-point tensor"),
        (dict(x=torch.zeros(8, 2, 4, 4)), ValueError, r"x: shape \[8, 2, 4, 4\] has 4 dimensions"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    arguments = dict(x=torch.zeros(1, 8, 2, 4, 4), weight=torch.ones(8), bias=torch.zeros(8), groups=2) | arguments
    with pytest.raises(error, match=message):
        ops.group_norm_silu(**arguments)
