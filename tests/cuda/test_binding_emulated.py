"""Linear layers, convolutions and the binding, with emulated kernels behind them: strides, alignment, bad arguments."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from emulated import binding
from on_device import as_on_cuda
from op_accuracy import assert_error_within

from hunyuan_ext import Fp8Rows, reference
from hunyuan_ext.attention.norm_rope import qk_norm_rope
from hunyuan_ext.conv import kernels
from hunyuan_ext.linear import cuda

LAST, E4M3 = torch.channels_last_3d, torch.float8_e4m3fn


@pytest.fixture
def native():
    """The emulated kernels, for CPU tensors that stand for CUDA ones."""
    module = binding()
    with as_on_cuda(module):
        yield module


def plain_rows(x):
    """Rows that are not quantized, for `linear_exact`."""
    return SimpleNamespace(decoded=lambda dtype: x.to(dtype))


def linear_exact(x: Fp8Rows, weight, scale, bias, gelu=False, gate=None, residual=None):
    """In float64, of decoded operands."""
    wide = x.decoded(torch.float64) @ (weight.double() * reference.expand_scale(scale, weight.shape).double()).T
    out = wide if bias is None else wide + bias.double()
    out = F.gelu(out, approximate="tanh") if gelu else out
    flat = out.flatten(0, -2)
    flat = flat if gate is None else flat * gate.double().repeat_interleave(flat.shape[0] // gate.shape[0], 0)
    return flat.view_as(out) if residual is None else flat.view_as(out) + residual.double()


@pytest.mark.parametrize("granularity", ["row", "tensor", "block"])
def test_linear_of_every_weight_scale(native, granularity):
    x = torch.randn(2, 5, 256).bfloat16()
    weight, scale = reference.quantize_fp8(torch.randn(272, 256), granularity=granularity)
    bias, residual = torch.randn(272).bfloat16(), torch.randn(2, 5, 272).bfloat16()
    gate = torch.randn(2, 3 * 272).bfloat16().chunk(3, -1)[1]
    rows = cuda.quantize_rows(x)
    out = cuda.linear_fp8((rows,), weight, scale, bias, True, gate, residual)
    assert out.shape == (2, 5, 272) and out.dtype == torch.bfloat16
    exact = linear_exact(rows, weight, scale, bias, True, gate, residual)
    torch.testing.assert_close(out.double(), exact, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("granularity", ["row", "tensor"])
def test_linear_of_few_rows(native, granularity):
    """Operands anywhere in memory: what the kernel cannot read is copied."""
    x, weight = torch.randn(2, 5, 300).bfloat16()[..., 4:260], torch.randn(48, 256)
    weight, scale = reference.quantize_fp8(weight, granularity=granularity)
    bias, residual = torch.randn(49).bfloat16()[1:], torch.randn(2, 5, 49).bfloat16()[..., 1:]
    gate = torch.randn(2, 3 * 48).bfloat16().chunk(3, -1)[1]
    assert cuda.few_rows_fit(x, scale)
    out = cuda.few_rows(x, weight, scale, bias, True, gate, residual)
    exact = linear_exact(plain_rows(x), weight, scale, bias, True, gate, residual)
    torch.testing.assert_close(out.double(), exact, rtol=2**-8, atol=1e-3)
    with pytest.raises(ValueError, match="takes up to 16 rows, not 17"):
        native.linear_few_rows(x.new_zeros(17, 256), weight, scale, None, None, None, x.new_zeros(17, 48), False)


@pytest.mark.parametrize("inner", [256, 8192])
def test_plain_rows_are_quantized_and_multiplied_in_one_call(native, inner):
    """The same bits as two calls; scales by block from 8,192 columns on."""
    x = torch.randn(3, 7, inner).bfloat16()
    weight, scale = reference.quantize_fp8(torch.randn(48, inner))
    bias, residual, gate = torch.randn(48).bfloat16(), torch.randn(3, 7, 48).bfloat16(), torch.randn(3, 48).bfloat16()
    product = cuda.Fp8Product(x, weight, scale, bias, True, gate, residual)
    assert product.run == product.call
    out = product.run((x,), weight, scale, bias, 0, gate, residual, None)
    rows = cuda.quantize_rows(x, cuda.x_block(inner))
    assert torch.equal(out, cuda.linear_fp8((rows,), weight, scale, bias, True, gate, residual))
    small = torch.empty(3 * 7 * inner, dtype=torch.uint8)
    with pytest.raises(ValueError, match="workspace: is too small"):
        native.quantized_linear_fp8(x, small, weight, scale, bias, gate, residual, out, 0, True)


def test_linear_of_quantized_rows_and_to_quantized_rows(native):
    x = torch.randn(1, 9, 64).bfloat16()
    shift, scale = torch.randn(2, 1, 64).bfloat16()
    normed = cuda.layer_norm_modulate_fp8(x, shift, scale, 1e-6)
    weight, weight_scale = reference.quantize_fp8(torch.randn(272, 64))
    hidden = cuda.linear_fp8_quantized((normed,), weight, weight_scale, None, True)
    assert isinstance(hidden, Fp8Rows) and hidden.scale.shape == (3, 9)
    exact = linear_exact(normed, weight, weight_scale, None, True)
    torch.testing.assert_close(hidden.decoded(torch.float64), exact, rtol=2**-4, atol=0.05)
    back, back_scale = reference.quantize_fp8(torch.randn(16, 272))
    out = cuda.linear_fp8((hidden,), back, back_scale, None, False, None, None)
    torch.testing.assert_close(out.double(), linear_exact(hidden, back, back_scale, None), rtol=2**-7, atol=1e-2)


def test_misaligned_and_strided_tensors_are_copied(native):
    wide = torch.randn(6, 90).bfloat16()
    rows = cuda.quantize_rows(wide[:, 1:49])
    again = cuda.quantize_rows(wide[:, 1:49].contiguous())
    assert torch.equal(rows.codes.view(torch.uint8), again.codes.view(torch.uint8))
    weight, scale = reference.quantize_fp8(torch.randn(16, 48))
    bias, residual = torch.randn(17).bfloat16()[1:], torch.randn(6, 17).bfloat16()[:, 1:]
    gate = torch.randn(1, 17).bfloat16()[:, 1:]
    out = cuda.linear_fp8((rows,), weight, scale, bias, False, gate, residual)
    exact = linear_exact(rows, weight, scale, bias, False, gate, residual)
    torch.testing.assert_close(out.double(), exact, rtol=2**-8, atol=1e-3)


def test_misaligned_scales_of_a_weight_are_copied(native):
    """The kernel reads them two at a time."""
    rows = cuda.quantize_rows(torch.randn(3, 64).bfloat16())
    weight, scale = reference.quantize_fp8(torch.randn(32, 64))
    shifted = torch.cat((torch.zeros(1, 1), scale))[1:]
    assert shifted.data_ptr() % 8 and shifted.is_contiguous()
    out = [cuda.linear_fp8((rows,), weight, entry, None, False, None, None) for entry in (scale, shifted)]
    assert torch.equal(*out)
    native_result = torch.empty(3, 32, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="scales of weight rows must start at a multiple of 16 bytes"):
        native.linear_fp8(
            rows.codes, rows.scale, None, None, weight, shifted, None, None, None, native_result, None, False
        )


def test_norm_weights_anywhere_in_memory_are_copied_for_a_device():
    """Its kernels read 16 bytes at a time: a slice of a larger buffer may start elsewhere."""
    given = []
    q, norm = torch.randn(1, 2, 1, 64).bfloat16(), torch.randn(65).bfloat16()[1:]
    with as_on_cuda(SimpleNamespace(qk_norm_rope=lambda *args: given.extend(args[4]))):
        qk_norm_rope(q, q, (norm, norm, None, None), None, 0, 1e-6)
    assert norm.data_ptr() % 16 and given[0].data_ptr() % 16 == given[1].data_ptr() % 16 == 0
    assert torch.equal(given[0], norm) and given[2:] == [None, None]


@pytest.mark.parametrize("channels", [3, 16, 64])
def test_convolution_of_any_channel_count(native, channels):
    x = torch.randn(1, channels, 3, 6, 7).bfloat16()
    weight = (torch.randn(80, channels, 3, 3, 3) / (27 * channels) ** 0.5).bfloat16()
    bias, residual = torch.randn(80).bfloat16(), torch.randn(1, 80, 1, 4, 5).bfloat16()
    out, moments = kernels.causal_conv3d(x, weight, bias, residual, (1, 1, 1), groups=20)
    assert out.is_contiguous(memory_format=LAST) and moments.shape[2:] == (20, 3) and moments.isfinite().all()
    wide = x.double(), weight.double(), bias.double()
    exact = reference.causal_conv3d(*wide, residual=residual.double(), padded=True)
    assert_error_within(out, exact, reference.causal_conv3d(x, weight, bias, residual=residual, padded=True))


def test_convolution_then_norm_by_its_moments(native):
    x, weight = torch.randn(2, 64, 2, 12, 13).bfloat16(), (torch.randn(128, 64, 1, 3, 3) / 24).bfloat16()
    hidden, moments = kernels.causal_conv3d(x, weight, None, None, (1, 1, 1), groups=32)
    gamma, beta = torch.randn(2, 128).bfloat16()
    out = torch.full((2, 128, 4, 12, 13), float("nan")).bfloat16().contiguous(memory_format=LAST)
    workspace = torch.empty(native.group_norm_silu_workspace(hidden, 32, True), dtype=torch.uint8)
    native.group_norm_silu(hidden, gamma, beta, out, 32, 1e-6, True, (2, 1, 1), moments, workspace, 1)
    exact = reference.group_norm_silu(hidden.double(), gamma.double(), beta.double(), pad=(2, 1, 1))
    assert_error_within(out, exact, reference.group_norm_silu(hidden, gamma, beta, pad=(2, 1, 1)))


def test_empty_volumes_and_rows(native):
    x, weight = torch.zeros(0, 8, 3, 4, 4).bfloat16(), torch.zeros(8, 8, 3, 3, 3).bfloat16()
    out, moments = kernels.causal_conv3d(x, weight, None, None, (1, 1, 1))
    assert out.shape == (0, 8, 1, 2, 2) and moments is None
    assert cuda.quantize_rows(torch.zeros(0, 16).bfloat16()).codes.shape == (0, 16)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, x, w: m.causal_conv3d(x, w[:, :8], None, None, x, None, 0, (1, 1, 1)), ValueError, "weight"),
        (lambda m, x, w: m.causal_conv3d(x, w, None, None, x, None, 0, (1, 1, 1)), ValueError, "out: its shape"),
        (lambda m, x, w: m.causal_conv3d(x, w, torch.zeros(3), None, x, None, 0, (1, 1, 1)), ValueError, "out|bias"),
        (lambda m, x, w: m.causal_conv3d(x, w, None, None, x, None, 0, (3, 1, 1)), ValueError, "out|stride"),
        (lambda m, x, w: m.causal_conv3d(x.contiguous(), w, None, None, x, None, 0, (1, 1, 1)), ValueError, "_last"),
        (lambda m, x, w: m.causal_conv3d(x, w.half(), None, None, x, None, 0, (1, 1, 1)), TypeError, "weight.*dtype"),
        (lambda m, x, w: m.quantize_rows(x, x, torch.zeros(1)), ValueError, "x: has 5 dimensions"),
        (
            lambda m, x, w: m.quantize_rows(torch.zeros(2, 12), torch.zeros(2, 12).to(E4M3), torch.zeros(2)),
            ValueError,
            "columns must be a multiple of 8",
        ),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(native, call, error, message):
    x = torch.randn(1, 16, 4, 5, 6).bfloat16().contiguous(memory_format=LAST)
    weight = torch.randn(16, 16, 1, 3, 3).bfloat16().contiguous(memory_format=LAST)
    with pytest.raises(error, match=message):
        call(native, x, weight)
