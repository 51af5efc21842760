"""The CUDA convolution kernels, run by the emulator, against torch in float64."""

from __future__ import annotations

import pytest
import torch
from emulated import kernels
from op_accuracy import assert_error_within

from hunyuan_ext import reference

NAN = float("nan")


def conv(arch, x, weight, bias=None, *, stride=(1, 1, 1), residual=None, groups=0, seed=0):
    """x: [B, C, T, H, W] already padded. Returns out, and the moments [B, chunks, groups, 3] when groups is given."""
    batch, channels, *volume = x.shape
    kernel = tuple(weight.shape[2:])
    out_volume = [(n - k) // s + 1 for n, k, s in zip(volume, kernel, stride, strict=True)]
    last = torch.channels_last_3d
    x, weight = x.contiguous(memory_format=last), weight.contiguous(memory_format=last)
    residual = None if residual is None else residual.contiguous(memory_format=last)
    out = torch.full((batch, weight.shape[0], *out_volume), NAN).to(x.dtype).contiguous(memory_format=last)
    values = dict(
        x=x, weight=weight, bias=bias, residual=residual, out=out, batch=batch, channels=channels,
        out_channels=weight.shape[0], frames=volume[0], rows=volume[1], columns=volume[2], kernel=kernel, stride=stride,
        groups=groups, dtype=x.dtype, bias_dtype=x.dtype if bias is None else bias.dtype,
    )  # fmt: skip
    moments = None
    if groups:
        chunks = kernels().number(f"{arch}_moment_chunks", "causal_conv3d", **values)
        moments = torch.full((batch, chunks, groups, 3), NAN)
    kernels().call("causal_conv3d", seed, arch, **values, moments=moments)
    return (out, moments) if groups else out


def case(channels, out_channels, volume, kernel, dtype=torch.bfloat16, batch=1, stride=(1, 1, 1), residual=False):
    x = torch.randn(batch, channels, *volume).to(dtype)
    weight = (torch.randn(out_channels, channels, *kernel) / (channels * 27) ** 0.5).to(dtype)
    bias = torch.randn(out_channels).to(dtype)
    shape = [(n - k) // s + 1 for n, k, s in zip(volume, kernel, stride, strict=True)]
    return x, weight, bias, torch.randn(batch, out_channels, *shape).to(dtype) if residual else None


def check(out, x, weight, bias, residual=None, stride=(1, 1, 1)):
    wide = [None if tensor is None else tensor.double() for tensor in (x, weight, bias, residual)]
    exact = reference.causal_conv3d(*wide[:3], stride=stride, residual=wide[3], padded=True)
    plain = reference.causal_conv3d(x, weight, bias, stride=stride, residual=residual, padded=True)
    assert_error_within(out, exact, plain)


CASES = {  # channels, out channels, padded volume, kernel, stride, batch
    "tail of positions": (16, 24, (3, 9, 11), (3, 3, 3), (1, 1, 1), 1),
    "three channels out": (32, 3, (3, 7, 7), (3, 3, 3), (1, 1, 1), 1),
    "channels that no panel divides": (40, 40, (2, 5, 6), (2, 3, 3), (1, 1, 1), 2),
    "one tap": (72, 136, (2, 5, 7), (1, 1, 1), (1, 1, 1), 2),
    "stride in space": (16, 16, (3, 9, 8), (3, 3, 3), (1, 2, 2), 1),
    "stride in time and space": (64, 64, (5, 9, 9), (3, 3, 3), (2, 2, 2), 1),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CASES)
def test_mma(name, dtype):
    channels, out_channels, volume, kernel, stride, batch = CASES[name]
    x, weight, bias, residual = case(channels, out_channels, volume, kernel, dtype, batch, stride, residual=True)
    check(conv("mma", x, weight, bias, stride=stride, residual=residual), x, weight, bias, residual, stride)
    check(conv("mma", x, weight, stride=stride), x, weight, None, None, stride)


WIDE_CASES = {  # what the Hopper kernel takes: 64 channels and more on both sides
    "one box, pairs share the input": (64, 256, (1, 18, 18), (1, 3, 3), (1, 1, 1), 1),
    "pairs share the weight, an odd one out": (64, 128, (3, 20, 19), (1, 3, 3), (1, 1, 1), 1),
    "a single tile": (72, 72, (2, 9, 9), (2, 1, 1), (1, 1, 1), 1),
    "stride, several boxes": (64, 64, (3, 37, 69), (1, 3, 3), (1, 2, 2), 1),
    "stride in time, two samples": (128, 80, (5, 9, 35), (3, 1, 1), (2, 2, 2), 2),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", WIDE_CASES)
def test_sm90(name, seed):
    channels, out_channels, volume, kernel, stride, batch = WIDE_CASES[name]
    dtype = torch.float16 if name == "a single tile" else torch.bfloat16
    x, weight, bias, residual = case(channels, out_channels, volume, kernel, dtype, batch, stride, residual=True)
    out = conv("sm90", x, weight, bias, stride=stride, residual=residual, seed=seed)
    check(out, x, weight, bias, residual, stride)


def test_bias_in_float32_and_residual_in_place():
    x, weight, _, residual = case(16, 16, (3, 5, 5), (3, 3, 3), residual=True)
    bias = torch.randn(16)
    check(conv("mma", x, weight, bias, residual=residual), x, weight, bias.bfloat16(), residual + 0)


@pytest.mark.parametrize(
    ("arch", "channels", "out_channels", "groups"), [("mma", 16, 192, 48), ("mma", 16, 32, 8), ("sm90", 64, 256, 32)]
)
def test_moments_are_those_of_the_stored_output(arch, channels, out_channels, groups):
    x, weight, bias, _ = case(channels, out_channels, (2, 19, 17), (1, 3, 3), batch=2)
    out, moments = conv(arch, x, weight, bias + 5, groups=groups)
    check(out, x, weight, bias + 5)
    grouped = out.double().unflatten(1, (groups, -1)).flatten(2)  # [B, groups, elements]
    count, mean, squares = moments.double().unbind(-1)
    total = count.sum(1)
    assert (total == grouped.shape[-1]).all()
    merged = (count * mean).sum(1) / total
    variance = (squares + count * (mean - merged[:, None]) ** 2).sum(1) / total
    torch.testing.assert_close(merged, grouped.mean(-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(variance, grouped.var(-1, correction=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("last", [True, False])
def test_pad_causal(dtype, last):
    x = torch.randn(2, 5 if dtype == torch.uint8 else 8, 3, 4, 5).to(dtype)
    pad = (2, 1, 3)
    out = torch.zeros(2, x.shape[1], 5, 6, 11, dtype=dtype)
    if last:
        x, out = (tensor.contiguous(memory_format=torch.channels_last_3d) for tensor in (x, out))
    cell = x.element_size() * (x.shape[1] if last else 1)
    kernels().call(
        "pad_causal", x=x, out=out, planes=2 if last else 2 * x.shape[1], frames=3, rows=4, columns=5, cell_bytes=cell,
        pad_frames=2, pad_rows=1, pad_columns=3,
    )  # fmt: skip
    assert torch.equal(out, reference.pad_causal(x.float(), pad).to(dtype))
