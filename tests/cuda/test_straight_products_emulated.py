"""The FP8 product of Hopper that ends with straight code, run by the emulator: every end, ragged edges."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_gemm_emulated import assert_rounded_once, decode, expected, linear, operands


@pytest.mark.parametrize("shape", [(5, 64, 32), (270, 256, 160), (300, 640, 416)])
def test_bias_and_gelu(shape):
    """Ragged rows and columns; one to five steps; clusters that share either operand."""
    x8, x_scale, w8, w_scale = operands(*shape)
    x, w = decode(x8, x_scale), decode(w8, w_scale)
    for extra in (dict(), dict(bias=torch.randn(shape[2]).bfloat16()), dict(gelu=True)):
        assert_rounded_once(linear("straight", x8, x_scale, w8, w_scale, seed=2, **extra), expected(x, w, **extra))


def test_one_scale_of_the_weight():
    x8, x_scale, w8, w_scale = operands(40, 128, 64)
    one = w_scale[:1].clone()
    out = linear("straight", x8, x_scale, w8, one, weight_scales=0)
    assert_rounded_once(out, expected(decode(x8, x_scale), w8.double() * one.double()))


@pytest.mark.parametrize(("rows", "tokens"), [(270, 270), (600, 256), (700, 256)])
def test_gate_and_residual(rows, tokens):
    inner, columns = 256, 288
    x8, x_scale, w8, w_scale = operands(rows, inner, columns)
    clips = -(-rows // tokens)
    gate = torch.randn(clips, 3 * columns).bfloat16()[:, columns : 2 * columns]
    extra = dict(bias=torch.randn(columns).bfloat16(), residual=torch.randn(rows, columns).bfloat16())
    extra |= dict(gate=gate, tokens=tokens)
    out = linear("straight", x8, x_scale, w8, w_scale, seed=1, **extra)
    assert_rounded_once(out, expected(decode(x8, x_scale), decode(w8, w_scale), **extra))


@pytest.mark.parametrize("shape", [(130, 144, 128), (300, 128, 384)])
def test_quantized_output(shape):
    x8, x_scale, w8, w_scale = operands(*shape)
    bias = torch.randn(shape[2]).bfloat16()
    codes, scale = linear("straight", x8, x_scale, w8, w_scale, bias=bias, gelu=True, out_block=True)
    exact = expected(decode(x8, x_scale), decode(w8, w_scale), bias=bias, gelu=True)
    amax = F.pad(exact, (0, -shape[2] % 128)).unflatten(1, (-1, 128)).abs().amax(-1)
    torch.testing.assert_close(scale.double(), amax.T / 448, rtol=1e-3, atol=0)
    spread = amax.repeat_interleave(128, 1)
    step = torch.maximum(exact.abs() * 2.0**-4, spread / 448 * 2.0**-10)
    assert ((decode(codes, scale, 128) - exact).abs() <= step * 1.01 + 1e-4 * spread).all()


@pytest.mark.parametrize("finish", ["bias", "gelu", "gate", "quantize"])
def test_scales_by_block(finish):
    """Scales of x in two parts and of the weight: the same values as of the general product, to a rounding."""
    rows, inner, columns = 270, 656, 256
    x8, x_scale, w8, _ = operands(rows, inner, columns, x_block=128)
    blocks = torch.rand(columns // 128, -(-inner // 128)) + 0.5
    head = 256
    parts = dict(x_tail=x8[:, head:].contiguous(), x_tail_scale=x_scale[head // 128 :].contiguous(), head_columns=head)
    extra = dict(bias=torch.randn(columns).bfloat16(), gelu=finish in ("gelu", "quantize"))
    if finish == "gate":
        extra |= dict(
            gate=torch.randn(1, columns).bfloat16(), tokens=rows, residual=torch.randn(rows, columns).bfloat16()
        )
    outs = []
    for product in ("straight", "general"):
        out = linear(
            product, x8[:, :head].contiguous(), x_scale[: head // 128].contiguous(), w8, blocks, x_block=128,
            weight_scales=128, out_block=finish == "quantize", **extra, **parts,
        )  # fmt: skip
        outs.append(decode(*out, 128) if finish == "quantize" else out.double())
    bound = 2.0**-3 if finish == "quantize" else 2.0**-7
    assert ((outs[0] - outs[1]).abs() <= bound * outs[1].abs() + 1e-3).all()
    w = w8.double() * blocks.double().repeat_interleave(128, 0).repeat_interleave(128, 1)[:, :inner]
    if finish != "quantize":
        assert_rounded_once(outs[0].bfloat16(), expected(decode(x8, x_scale, 128), w, **extra))


def test_refuses_what_it_cannot_finish():
    x8, x_scale, w8, w_scale = operands(20, 64, 48)
    with pytest.raises(RuntimeError, match="does not take these operands"):
        linear("straight", x8, x_scale, w8, w_scale)
