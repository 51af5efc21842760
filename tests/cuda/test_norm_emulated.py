"""The CUDA norm kernels, run by the emulator: every element written, statistics, padding, FP8 output."""

from __future__ import annotations

import pytest
import torch
from emulated import kernels
from op_accuracy import assert_error_within, max_error

from hunyuan_ext import reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NAN = float("nan")


def poisoned(shape, dtype: torch.dtype) -> torch.Tensor:
    return torch.full(shape, NAN).to(dtype)


def modulate(x, shift, scale, *, quantized=False, seed=0):
    batch, tokens, channels = x.shape
    out = poisoned(x.shape, torch.float8_e4m3fn if quantized else x.dtype)
    out_scale = poisoned((batch, tokens), torch.float32) if quantized else None
    kernels().call(
        "layer_norm_modulate", seed, x=x, shift=shift, scale=scale, out=out, batch=batch, tokens=tokens,
        channels=channels, x_batch_stride=x.stride(0), x_token_stride=x.stride(1), shift_batch_stride=shift.stride(0),
        scale_batch_stride=scale.stride(0), eps=1e-6, dtype=x.dtype, out_scale=out_scale,
    )  # fmt: skip
    return (out, out_scale) if quantized else out


def gate(x, y, gates):
    out = poisoned(x.shape, x.dtype)
    batch, tokens, channels = x.shape
    kernels().call(
        "gate_residual", x=x, y=y, gate=gates, out=out, batch=batch, tokens=tokens, channels=channels,
        x_batch_stride=x.stride(0), x_token_stride=x.stride(1), y_batch_stride=y.stride(0), y_token_stride=y.stride(1),
        gate_batch_stride=gates.stride(0), dtype=x.dtype,
    )  # fmt: skip
    return out


def group_norm(x, weight, bias, *, groups=32, silu=True, pad=(0, 0, 0), eps=1e-6, seed=0, **given):
    """x: [B, C, T, H, W] channels_last_3d."""
    batch, channels, frames, rows, columns = x.shape
    shape = batch, channels, frames + pad[0], rows + 2 * pad[1], columns + 2 * pad[2]
    out = poisoned(shape, x.dtype).contiguous(memory_format=torch.channels_last_3d)
    values = dict(
        x=x, weight=weight, bias=bias, out=out, batch=batch, channels=channels, frames=frames, rows=rows,
        columns=columns, groups=groups, pad_frames=pad[0], pad_rows=pad[1], pad_columns=pad[2], eps=eps, silu=int(silu),
        channels_last=1, dtype=x.dtype, affine_dtype=torch.float32 if weight is None else weight.dtype, **given,
    )  # fmt: skip
    size = kernels().number("group_norm_silu_workspace", "group_norm_silu", **values)
    workspace = torch.full((size + 64,), 255, dtype=torch.uint8)
    kernels().call("group_norm_silu", seed, **values, workspace=workspace)
    assert (workspace[size:] == 255).all(), "wrote past its workspace"
    return out


def volume(shape, dtype, mean=1.5):
    x = (torch.randn(shape) * 3 + mean).to(dtype)
    return x.contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 3, 3072), (1, 5, 33), (2, 7, 160), (1, 2, 1)])
def test_layer_norm_modulate(shape, dtype):
    x = (torch.randn(shape) * 3 + 1.5).to(dtype)
    shift, scale = torch.randn(shape[0], 2 * shape[2]).to(dtype).chunk(2, -1)
    exact = reference.layer_norm_modulate(x.double(), shift.double(), scale.double())
    assert_error_within(modulate(x, shift, scale), exact, reference.layer_norm_modulate(x, shift, scale))


def test_strided_inputs():
    wide = torch.randn(3, 9, 80)
    x, vector = wide[:, ::2, 8:48], torch.randn(3, 64)[:, 4:44]
    assert torch.equal(modulate(x, vector, vector), modulate(x.contiguous(), vector.contiguous(), vector.contiguous()))
    assert torch.equal(gate(x, x, vector), gate(x.contiguous(), x.contiguous(), vector.contiguous()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 3, 3072), (1, 5, 33), (2, 7, 160)])
def test_gate_residual(shape, dtype):
    x, y = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    gates = torch.randn(shape[0], shape[2]).to(dtype)
    exact = reference.gate_residual(x.double(), y.double(), gates.double())
    assert_error_within(gate(x, y, gates), exact, reference.gate_residual(x, y, gates))


@pytest.mark.parametrize("shape", [(2, 3, 3072), (1, 5, 33), (1, 2, 12288)])
def test_fp8_output_is_the_quantized_row(shape):
    x = (torch.randn(shape) * 3 + 1.5).bfloat16()
    shift, scale = torch.randn(2, shape[0], shape[2]).bfloat16()
    out, out_scale = modulate(x, shift, scale, quantized=True)
    exact = reference.layer_norm_modulate(x.double(), shift.double(), scale.double())
    amax = exact.abs().amax(-1)
    torch.testing.assert_close(out_scale.double(), amax / 448, rtol=1e-5, atol=0)
    # e4m3 has three mantissa bits: half a step of the largest binade, or of the subnormals, times the scale.
    step = torch.maximum(exact.abs() * 2.0**-4, amax[..., None] / 448 * 2.0**-10)
    assert ((out.double() * out_scale[..., None].double() - exact).abs() <= step * 1.001).all()


def test_fp8_output_of_tiny_and_zero_rows_is_finite():
    x = torch.zeros(1, 2, 16).bfloat16()
    tiny = torch.full((1, 16), 1e-38).bfloat16()
    tiny[0, 3] = 0
    out, out_scale = modulate(x, tiny, torch.zeros(1, 16).bfloat16(), quantized=True)
    assert out.float().isfinite().all() and out_scale.isfinite().all()
    out, out_scale = modulate(x, torch.zeros(1, 16).bfloat16(), torch.zeros(1, 16).bfloat16(), quantized=True)
    assert (out.float() == 0).all() and (out_scale == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "groups", "pad"),
    [
        ((1, 128, 3, 5, 7), 32, (2, 1, 1)),
        ((2, 256, 1, 3, 4), 32, (2, 1, 1)),
        ((1, 512, 2, 2, 2), 32, (0, 0, 0)),
        ((2, 16, 4, 1, 1), 4, (2, 1, 1)),
        ((1, 64, 2, 9, 11), 1, (1, 2, 3)),
        ((1, 24, 1, 1, 40), 3, (0, 0, 1)),
    ],
)
def test_group_norm_silu(shape, groups, pad, dtype):
    x = volume(shape, dtype)
    weight, bias = torch.randn(2, shape[1]).to(dtype)
    out = group_norm(x, weight, bias, groups=groups, pad=pad)
    exact = reference.group_norm_silu(x.double(), weight.double(), bias.double(), groups=groups, pad=pad)
    assert_error_within(out, exact, reference.group_norm_silu(x, weight, bias, groups=groups, pad=pad))


def test_group_norm_without_affine_or_silu_and_with_float32_weights():
    x = volume((1, 32, 2, 3, 5), torch.bfloat16)
    exact = reference.group_norm_silu(x.double(), None, None, groups=8, silu=False)
    plain = reference.group_norm_silu(x, None, None, groups=8, silu=False)
    assert_error_within(group_norm(x, None, None, groups=8, silu=False), exact, plain)
    weight, bias = torch.randn(2, 32)
    exact = reference.group_norm_silu(x.double(), weight.double(), bias.double(), groups=8)
    assert max_error(group_norm(x, weight, bias, groups=8), exact) < 0.02


def test_large_mean_keeps_its_digits():
    x = volume((1, 32, 2, 16, 16), torch.float32, mean=3000.0)
    exact = reference.group_norm_silu(x.double(), None, None, groups=8, silu=False)
    plain = reference.group_norm_silu(x, None, None, groups=8, silu=False)
    assert_error_within(group_norm(x, None, None, groups=8, silu=False), exact, plain)


def moments_of(part: torch.Tensor) -> torch.Tensor:  # [B, groups, positions, width] -> [B, groups, 3]
    """Count, mean and sum of squares about the mean; zeros for no positions."""
    mean = part.mean((2, 3)).nan_to_num()
    squares = ((part - mean[..., None, None]) ** 2).sum((2, 3))
    return torch.stack((torch.full_like(mean, part[0, 0].numel()), mean, squares), -1)


def test_several_chunks_and_given_moments_agree():
    x = volume((2, 512, 3, 9, 10), torch.bfloat16)  # 270 positions: three chunks of 128
    weight, bias = torch.randn(2, 512).bfloat16()
    exact = reference.group_norm_silu(x.double(), weight.double(), bias.double(), pad=(2, 1, 1))
    plain = reference.group_norm_silu(x, weight, bias, pad=(2, 1, 1))
    assert_error_within(group_norm(x, weight, bias, pad=(2, 1, 1)), exact, plain)
    grouped = x.double().unflatten(1, (32, 16)).permute(0, 1, 3, 4, 5, 2).flatten(2, 4)  # [B, groups, positions, width]
    pieces = [grouped[:, :, :100], grouped[:, :, 100:100], grouped[:, :, 100:]]
    moments = torch.stack([moments_of(part) for part in pieces], dim=1).float()
    out = group_norm(x, weight, bias, pad=(2, 1, 1), moments=moments.contiguous(), moment_chunks=3)
    assert_error_within(out, exact, plain)


def test_results_repeat_for_every_order_of_threads():
    x = volume((1, 128, 2, 8, 9), torch.bfloat16)
    first = group_norm(x, None, None)
    assert all(torch.equal(first, group_norm(x, None, None, seed=seed)) for seed in range(1, 4))
