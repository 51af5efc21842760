"""The template op: what every op is tested for, at its smallest."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_accuracy import DTYPES, LEVELS, assert_error_within, needs_native, poisoned_outputs  # noqa: F401

from hunyuan_ext import reference
from hunyuan_ext.core import native
from hunyuan_ext.template import template_scale


@needs_native
@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(0, 200),
    factor=st.floats(-10, 10, width=32),
    dtype=st.sampled_from(DTYPES),
    level=st.sampled_from(LEVELS),
    seed=st.integers(0, 1000),
)
def test_error_within_twice_that_of_torch(count, factor, dtype, level, seed):
    x = torch.randn(count, generator=torch.Generator().manual_seed(seed)).to(dtype)
    with native.forced("native", level):
        out = template_scale(x, factor)
    assert_error_within(out, reference.template_scale(x.double(), factor), reference.template_scale(x, factor))


@needs_native
def test_strided_input_and_threads():
    x = torch.randn(200_000)[::2]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(template_scale(x, 1.5), x * 1.5)
    finally:
        torch.set_num_threads(before)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"x: shape \[2, 3\] has 2 dimensions, \[N\] is needed"):
        template_scale(torch.zeros(2, 3), 1.0)
    with pytest.raises(TypeError, match="x: a floating-point tensor is needed, got torch.int64"):
        template_scale(torch.zeros(2, dtype=torch.int64), 1.0)
