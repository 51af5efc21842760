"""The CUDA FP8 kernels, run by the emulator: quantization, products, epilogues, two-level accumulation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from emulated import kernels

E4M3 = torch.float8_e4m3fn
NAN = float("nan")


def quantize(x, block=0):
    rows, columns = x.shape
    out = torch.full((rows, columns), NAN).to(E4M3)
    scale = torch.full((-(-columns // block), rows) if block else (rows,), NAN)
    kernels().call(
        "quantize_rows", x=x, out=out, scale=scale, rows=rows, columns=columns, x_row_stride=x.stride(0), block=block,
        dtype=x.dtype,
    )  # fmt: skip
    return out, scale


def decode(codes, scale, block=0):
    """float64 values of codes [rows, columns] with scale [rows] or [blocks, rows]."""
    wide = scale.double()
    spread = wide.T.repeat_interleave(block, 1)[:, : codes.shape[1]] if block else wide[:, None]
    return codes.double() * spread


def linear(arch, x8, x_scale, w8, w_scale, *, bias=None, gate=None, residual=None, gelu=False, x_block=0,
           weight_scales=1, out_block=False, tokens=1, seed=0, **tail):  # fmt: skip
    rows, columns = x8.shape[0], w8.shape[0]
    out = torch.full((rows, columns), NAN).to(E4M3 if out_block else torch.bfloat16)
    out_scale = torch.full((-(-columns // 128), rows), NAN) if out_block else None
    kernels().call(
        "linear_fp8", seed, arch, x=x8, x_scale=x_scale, weight=w8, weight_scale=w_scale, bias=bias, gate=gate,
        residual=residual, out=out, out_scale=out_scale, rows=rows, in_columns=w8.shape[1], out_columns=columns,
        tokens=tokens, gate_stride=0 if gate is None else gate.stride(0), x_block=x_block, weight_scales=weight_scales,
        gelu=int(gelu), **tail,
    )  # fmt: skip
    return (out, out_scale) if out_block else out


def operands(rows, inner, columns, x_block=0):
    x8, x_scale = quantize(torch.randn(rows, inner).bfloat16(), x_block)
    w8, w_scale = quantize((torch.randn(columns, inner) / inner**0.5).bfloat16())
    return x8, x_scale, w8, w_scale


def expected(x, w, bias=None, gate=None, residual=None, gelu=False, tokens=1):
    """In float64, from decoded operands."""
    out = F.linear(x, w, None if bias is None else bias.double())
    out = F.gelu(out, approximate="tanh") if gelu else out
    out = out if gate is None else gate.double().repeat_interleave(tokens, 0)[: out.shape[0]] * out
    return out if residual is None else residual.double() + out


def assert_rounded_once(out, exact):
    """Within a bfloat16 rounding, and what float32 sums lose."""
    assert ((out.double() - exact).abs() <= exact.abs() * 2.0**-8 + 1e-4 * exact.abs().max()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("shape", "block"), [((3, 3072), 0), ((5, 40), 0), ((2, 15360), 0), ((7, 200), 128), ((33, 256), 128)]
)
def test_quantize_rows(shape, block, dtype):
    x = (torch.randn(shape) * torch.logspace(-3, 3, shape[0])[:, None]).to(dtype)
    codes, scale = quantize(x, block)
    wide = x.double()
    blocks = F.pad(wide, (0, -shape[1] % (block or 1))).unflatten(1, (-1, block or shape[1]))
    amax = blocks.abs().amax(-1)
    torch.testing.assert_close(scale.double(), amax.T / 448 if block else amax[:, 0] / 448, rtol=1e-6, atol=0)
    spread = amax.repeat_interleave(block or shape[1], 1)[:, : shape[1]]
    step = torch.maximum(wide.abs() * 2.0**-4, spread / 448 * 2.0**-10)
    assert ((decode(codes, scale, block) - wide).abs() <= step * 1.001).all()


def test_quantize_rows_reads_strided_rows():
    wide = torch.randn(6, 96).bfloat16()
    codes, scale = quantize(wide[::2, 16:64])
    again, again_scale = quantize(wide[::2, 16:64].contiguous())
    assert torch.equal(codes.view(torch.uint8), again.view(torch.uint8)) and torch.equal(scale, again_scale)


@pytest.mark.parametrize("arch", ["sm89", "sm90"])
@pytest.mark.parametrize("shape", [(5, 32, 16), (130, 272, 144), (300, 144, 272)])
def test_plain_product(arch, shape):
    x8, x_scale, w8, w_scale = operands(*shape)
    exact = expected(decode(x8, x_scale), decode(w8, w_scale))
    assert_rounded_once(linear(arch, x8, x_scale, w8, w_scale), exact)
    entry = w_scale[:1].clone()
    exact = expected(decode(x8, x_scale), w8.double() * entry.double())
    assert_rounded_once(linear(arch, x8, x_scale, w8, entry, weight_scales=0), exact)


@pytest.mark.parametrize("arch", ["sm89", "sm90"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_epilogues(arch, seed):
    rows, inner, columns, tokens = 270, 256, 160, 90
    x8, x_scale, w8, w_scale = operands(rows, inner, columns)
    x, w = decode(x8, x_scale), decode(w8, w_scale)
    bias, residual = torch.randn(columns).bfloat16(), torch.randn(rows, columns).bfloat16()
    gate = torch.randn(3, 3 * columns).bfloat16()[:, columns : 2 * columns]
    for extra in (
        dict(bias=bias),
        dict(bias=bias, gelu=True),
        dict(bias=bias, gate=gate, residual=residual, tokens=tokens),
        dict(gate=gate, tokens=tokens),
        dict(residual=residual, gelu=True),
    ):
        assert_rounded_once(linear(arch, x8, x_scale, w8, w_scale, seed=seed, **extra), expected(x, w, **extra))


@pytest.mark.parametrize("arch", ["sm89", "sm90"])
def test_scales_by_block(arch):
    rows, inner, columns = 140, 400, 272
    x8, x_scale, w8, w_scale = operands(rows, inner, columns, x_block=128)
    x = decode(x8, x_scale, 128)
    out = linear(arch, x8, x_scale, w8, w_scale, x_block=128, seed=1)
    assert_rounded_once(out, expected(x, decode(w8, w_scale)))
    blocks = torch.rand(3, 4) + 0.5
    w = w8.double() * blocks.double().repeat_interleave(128, 0)[:columns].repeat_interleave(128, 1)[:, :inner]
    out = linear(arch, x8, x_scale, w8, blocks, x_block=128, weight_scales=128)
    assert_rounded_once(out, expected(x, w))


@pytest.mark.parametrize("arch", ["sm89", "sm90"])
def test_x_in_two_parts(arch):
    """Side by side in K: the same bits as of the joined matrix."""
    rows, head, tail, columns = 140, 256, 304, 144
    x8, x_scale, w8, w_scale = operands(rows, head + tail, columns, x_block=128)
    whole = linear(arch, x8, x_scale, w8, w_scale, x_block=128)
    parts = dict(x_tail=x8[:, head:].contiguous(), x_tail_scale=x_scale[head // 128 :].contiguous(), head_columns=head)
    out = linear(
        arch, x8[:, :head].contiguous(), x_scale[: head // 128].contiguous(), w8, w_scale, x_block=128, **parts
    )
    assert torch.equal(out, whole)


@pytest.mark.parametrize("arch", ["sm89", "sm90"])
def test_long_inner_dimension_takes_the_promoted_path(arch):
    x8, x_scale, w8, w_scale = operands(20, 8192, 32)
    out = linear(arch, x8, x_scale, w8, w_scale, seed=1)
    assert_rounded_once(out, expected(decode(x8, x_scale), decode(w8, w_scale)))


def test_one_row():
    """The stride of its only row describes no row, but must hold one."""
    x8, x_scale, w8, w_scale = operands(1, 256, 128)
    out = linear("sm90", x8, x_scale, w8, w_scale)
    assert_rounded_once(out, expected(decode(x8, x_scale), decode(w8, w_scale)))


@pytest.mark.parametrize("arch", ["sm89", "sm90"])
@pytest.mark.parametrize("shape", [(130, 144, 200 // 16 * 16), (70, 128, 256)])
def test_quantized_output(arch, shape):
    x8, x_scale, w8, w_scale = operands(*shape)
    bias = torch.randn(shape[2]).bfloat16()
    codes, scale = linear(arch, x8, x_scale, w8, w_scale, bias=bias, gelu=True, out_block=True)
    exact = expected(decode(x8, x_scale), decode(w8, w_scale), bias=bias, gelu=True)
    amax = F.pad(exact, (0, -shape[2] % 128)).unflatten(1, (-1, 128)).abs().amax(-1)
    torch.testing.assert_close(scale.double(), amax.T / 448, rtol=1e-3, atol=0)
    spread = amax.repeat_interleave(128, 1)[:, : shape[2]]
    step = torch.maximum(exact.abs() * 2.0**-4, spread / 448 * 2.0**-10)
    assert ((decode(codes, scale, 128) - exact).abs() <= step * 1.01 + 1e-4 * spread).all()
