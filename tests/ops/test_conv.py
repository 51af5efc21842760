"""causal_conv3d and its padding, against the float64 reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_accuracy import DTYPES, assert_error_within, needs_native, poisoned_outputs  # noqa: F401

import hunyuan_ext as ops
from hunyuan_ext import reference
from hunyuan_ext.core import native

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


@needs_native
@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(1, 9)),
    pad=st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 3)),
    dtype=st.sampled_from([*DTYPES, torch.float16]),
    layout=st.sampled_from(LAYOUTS),
)
def test_padding_is_an_exact_copy(shape, pad, dtype, layout):
    x = torch.randn(shape).to(dtype).to(memory_format=layout)
    with native.forced("native"):
        out = ops.pad_causal(x, pad)
    assert torch.equal(out, reference.pad_causal(x, pad))
    assert not x.numel() or out.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("mode", ["reference", "auto"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 2, 2)])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 1, 1), (3, 1, 1)])
def test_error_within_twice_that_of_torch(kernel, stride, layout, dtype, mode):
    x = torch.randn(2, 5, 4, 7, 6).to(dtype).to(memory_format=layout)
    weight, bias = (torch.randn(8, 5, *kernel) / 4).to(dtype), torch.randn(8).to(dtype)
    exact = reference.causal_conv3d(x.double(), weight.double(), bias.double(), stride=stride)
    residual = torch.randn(exact.shape).to(dtype)
    with native.forced(mode):
        out = ops.causal_conv3d(x, weight, bias, stride=stride)
        added = ops.causal_conv3d(x, weight, bias, stride=stride, residual=residual)
    baseline = reference.causal_conv3d(x, weight, bias, stride=stride)
    assert_error_within(out, exact, baseline)
    assert_error_within(added, exact + residual.double(), baseline + residual)
    sizes = [-(-size // step) for size, step in zip(x.shape[2:], stride, strict=True)]
    assert list(out.shape[2:]) == sizes


def test_a_frame_sees_only_itself_and_earlier_ones():
    x, weight = torch.randn(1, 3, 6, 5, 5), torch.randn(4, 3, 3, 3, 3)
    out = ops.causal_conv3d(x, weight)
    x[:, :, 4:] += 1
    assert torch.equal(ops.causal_conv3d(x, weight)[:, :, :4], out[:, :, :4])


def test_padded_input_is_not_padded_again():
    x, weight = torch.randn(1, 3, 4, 5, 5), torch.randn(4, 3, 3, 3, 3)
    padded = ops.pad_causal(x, (2, 1, 1))
    assert torch.equal(ops.causal_conv3d(padded, weight, padded=True), ops.causal_conv3d(x, weight))


def test_residual_is_not_changed_and_gradients_flow():
    x = torch.randn(1, 2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    residual = torch.randn(1, 3, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    copy = residual.detach().clone()
    assert torch.autograd.gradcheck(lambda *t: ops.causal_conv3d(t[0], t[1], residual=t[2]), (x, weight, residual))
    assert torch.equal(residual.detach(), copy)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("autocast", [False, True])
def test_weight_gradients_in_bfloat16_are_numbers(autocast, frames):
    torch.manual_seed(0)
    x = torch.randn(1, 32, frames, 64, 64)
    weight, bias = torch.randn(32, 32, 3, 3, 3) / 30, torch.zeros(32)
    grad = torch.randn(1, 32, frames, 64, 64)
    exact_out, *exact = conv_gradients(x, weight, bias, grad)
    own = torch.float32 if autocast else torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out, *outcome = conv_gradients(*(entry.to(own) for entry in (x, weight, bias)), grad)
    assert out.dtype == torch.bfloat16 and all(entry.dtype == own for entry in outcome)
    for result, right in zip((out, *outcome), (exact_out, *exact), strict=True):
        assert (result.float() - right).abs().max() < 0.02 * right.abs().max()


def conv_gradients(x, weight, bias, grad):
    """The output and the gradients of x, weight and bias."""
    leaves = [entry.detach().requires_grad_() for entry in (x, weight, bias)]
    out = ops.causal_conv3d(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_bfloat16_convolution_the_arithmetic_is_float32(dtype, switches):
    switches.setattr(native, "bfloat16_matmul", lambda: False)
    x, weight = torch.randn(1, 4, 3, 6, 6).to(dtype), torch.randn(4, 4, 3, 3, 3).to(dtype)
    exact = reference.causal_conv3d(x.double(), weight.double())
    out = ops.causal_conv3d(x, weight)
    assert_error_within(out, exact, reference.causal_conv3d(x, weight))
    assert torch.equal(out, reference.causal_conv3d(x.float(), weight.float()).to(dtype))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(x=torch.zeros(3, 4, 5, 5)), "x: shape .* has 4 dimensions"),
        (dict(weight=torch.zeros(4, 2, 3, 3, 3)), "weight: shape .* is for 2 channels, x has 3"),
        (dict(bias=torch.zeros(3)), r"bias: shape \[3\].*\[4\]"),
        (dict(residual=torch.zeros(1, 4, 4, 5, 4)), "residual: shape .*but the output has"),
        (dict(x=torch.zeros(1, 3, 2, 5, 5), padded=True), r"x: padded volume \[2, 5, 5\] is smaller than the kernel"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ops.causal_conv3d(**dict(x=torch.zeros(1, 3, 4, 5, 5), weight=torch.zeros(4, 3, 3, 3, 3)) | arguments)
