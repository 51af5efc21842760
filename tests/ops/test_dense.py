"""linear: units, epilogue, two inputs, outputs in place; against the float64 reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_accuracy import LEVELS, assert_error_within, needs_native, poisoned_outputs  # noqa: F401

import hunyuan_ext as ops
from hunyuan_ext import reference
from hunyuan_ext.core import native
from hunyuan_ext.linear import cpu
from hunyuan_ext.norm import kernels

BF16 = torch.bfloat16
UNITS = [
    unit for unit in (cpu.DOT, cpu.AMX) if native.module is not None and native.module.has_linear_unit(unit, False)
]


@pytest.fixture(params=UNITS, ids=[cpu.NAMES[unit] for unit in UNITS])
def unit(request, monkeypatch):
    """Each unit of this machine in turn takes all calls."""
    rows = [row for row in cpu.TABLE if row.unit == request.param]
    monkeypatch.setattr(cpu, "TABLE", rows)
    with native.forced("native"):
        yield request.param


def case(batch, tokens, columns, out, dtype=BF16):
    """x (one or two inputs), weight, bias, gate, residual."""
    inputs = tuple(torch.randn(batch, tokens, k).to(dtype) for k in columns)
    weight = (torch.randn(out, sum(columns)) * sum(columns) ** -0.5).to(dtype)
    rest = torch.randn(out), torch.randn(batch, out), torch.randn(batch, tokens, out)
    return inputs, weight, *(value.to(dtype) for value in rest)


def widened(value):
    return tuple(map(widened, value)) if isinstance(value, tuple) else value.double()


def check(inputs, weight, bias, gate, residual, activation_from=0, op_reference=reference.linear, op=ops.linear):
    for options in (
        {},
        {"gate": gate, "residual": residual},
        {"gate": gate, "residual": residual, "activation": "gelu_tanh", "activation_from": activation_from},
    ):
        words = {name: value for name, value in options.items() if name.startswith("activation")}
        tensors = {name: value for name, value in options.items() if name not in words}
        wide = {name: widened(value) for name, value in tensors.items()}
        exact = op_reference(widened(inputs), widened(weight), widened(bias), **wide, **words)
        plain = op_reference(inputs, weight, bias, **options)
        assert_error_within(op(inputs, weight, bias, **options), exact, plain)


SHAPES = [
    (1, 1, (32,), 32),
    (2, 7, (40,), 33),
    (3, 33, (64,), 100),
    (1, 200, (512,), 130),
    (2, 50, (96, 700), 70),
    (1, 16, (1500,), 65),
    (1, 40, (4100, 4500), 64),  # more than is packed at a time
    (3, 1, (31,), 5),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_error_within_twice_that_of_torch(shape, unit):
    check(*case(*shape), activation_from=shape[3] // 64 * 32)


@needs_native
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_every_level(level, dtype):
    with native.forced("native", level):
        check(*case(2, 19, (70, 60), 50, dtype))


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(0, 3),
    tokens=st.integers(0, 70),
    columns=st.lists(st.integers(1, 150), min_size=1, max_size=2),
    out=st.integers(1, 150),
)
def test_any_shape(batch, tokens, columns, out):
    for entry in UNITS or (None,):
        rows = [row for row in cpu.TABLE if row.unit == entry]
        with pytest.MonkeyPatch.context() as patch, native.forced("native" if UNITS else "auto"):
            patch.setattr(cpu, "TABLE", rows)
            check(*case(batch, tokens, tuple(columns), out))


def test_strided_operands_and_output_in_place(unit):
    inputs, weight, bias, gate, residual = case(2, 40, (96,), 64)
    spread = torch.randn(2, 50, 200, dtype=BF16)
    spread[:, 5:45, 64:160] = inputs[0]
    wide_weight = torch.randn(64, 300).to(BF16)
    wide_weight[:, 100:196] = weight
    target = torch.full((2, 60, 80), 7.0, dtype=BF16)
    target[:, 10:50, 8:72] = residual
    out = target[:, 10:50, 8:72]
    expected = ops.linear(inputs[0], weight, bias, gate=gate, residual=residual)
    ops.linear(spread[:, 5:45, 64:160], wide_weight[:, 100:196], bias, gate=gate, residual=out, out=out)
    assert torch.equal(out, expected)
    target[:, 10:50, 8:72] = 7.0
    assert (target == 7).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_and_batch_do_not_change_a_bit(threads, unit):
    inputs, weight, bias, gate, residual = case(3, 150, (200,), 300)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = ops.linear(inputs[0], weight, bias, activation="gelu_tanh", gate=gate, residual=residual)
        torch.set_num_threads(threads)
        for row in range(3):
            entry = slice(row, row + 1)
            out = ops.linear(
                inputs[0][entry], weight, bias, activation="gelu_tanh", gate=gate[entry], residual=residual[entry]
            )
            assert torch.equal(out, expected[entry])
    finally:
        torch.set_num_threads(before)


def test_infinity_and_nan_reach_the_output(unit):
    x, weight = torch.ones(1, 3, 32, dtype=BF16), torch.ones(32, 32, dtype=BF16)
    x[0, 0, 0], x[0, 1, 0] = float("inf"), float("nan")
    out = ops.linear(x, weight, activation="gelu_tanh")
    assert (out[0, 0] == float("inf")).all() and out[0, 1].isnan().all() and (out[0, 2] == 32).all()


def test_gradients_and_autocast_are_composed():
    inputs, weight, bias, gate, residual = case(2, 5, (6, 4), 32, torch.float64)
    leaves = [value.requires_grad_() for value in (*inputs, weight, bias, gate, residual)]
    assert torch.autograd.gradcheck(
        lambda a, b, w, c, g, r: ops.linear((a, b), w, c, activation="gelu_tanh", gate=g, residual=r), leaves
    )
    with torch.autocast("cpu", BF16):
        assert ops.linear(torch.randn(2, 8), torch.randn(4, 8)).dtype == BF16


def test_large_float32_gelu_is_onednns_or_the_own_one_after_torchs_product(switches):
    inputs, weight, bias, _, _ = case(1, 300, (64,), 128, torch.float32)
    calls = []
    for home, name in ((cpu, "onednn_gelu"), (kernels, "gelu_")):
        original = getattr(home, name)
        switches.setattr(home, name, lambda *a, name=name, original=original: calls.append(name) or original(*a))
    out = ops.linear(inputs[0], weight, bias, activation="gelu_tanh")
    expected = ["gelu_"] if native.isa() == "avx2" or not cpu.has_onednn() else ["onednn_gelu"]
    assert calls == ([] if native.mode == "reference" else expected)
    exact = reference.linear(inputs[0].double(), weight.double(), bias.double(), activation="gelu_tanh")
    assert_error_within(out, exact, reference.linear(inputs[0], weight, bias, activation="gelu_tanh"))
    with torch.enable_grad():
        ops.linear(inputs[0], weight.requires_grad_(), bias, activation="gelu_tanh")
    assert len(calls) <= 1


@pytest.mark.parametrize("shape", [(0, 8), (8,), (1, 1, 40), (2, 9, 37)])
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_gelu_without_gradients_obeys_the_rule(shape, dtype):
    torch.manual_seed(0)
    x, split = (4 * torch.randn(shape)).to(dtype), shape[-1] // 3
    before = x.clone()
    head, tail = ops.split_gelu(x, split)
    assert torch.equal(x, before) and torch.equal(head, x[..., :split]) and tail.is_contiguous()
    results = [torch.nn.functional.gelu(x.to(wide)[..., split:], approximate="tanh") for wide in (torch.float64, dtype)]
    assert_error_within(tail, *results)
    identity, bias = torch.eye(shape[-1], dtype=dtype), torch.zeros(shape[-1], dtype=dtype)
    assert_error_within(ops.linear(x, identity, bias, activation="gelu_tanh")[..., split:], *results)
    if native.module is not None and native.mode != "reference" and native.isa() != "scalar":
        assert ops.explain(ops.split_gelu, x, split)["kernel"] == "gelu"


def test_gelu_of_a_row_does_not_depend_on_the_rows_beside_it():
    torch.manual_seed(0)
    x = torch.randn(7, 37)
    whole = ops.split_gelu(x, 3)[1]
    assert torch.equal(whole, torch.cat([ops.split_gelu(row[None], 3)[1] for row in x]))
    assert torch.equal(whole[:, 5:], ops.split_gelu(x[:, 8:], 0)[1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(x=torch.zeros(3, 7)), ValueError, "x: its last dimension is 7, but weight has 8 columns"),
        (dict(x=(torch.zeros(3, 4), torch.zeros(2, 4))), ValueError, "x: its two tensors must agree"),
        (dict(x=(torch.zeros(3, 4),) * 3), ValueError, "x: one tensor or two are needed, got 3"),
        (dict(x=torch.zeros(3, 8, dtype=torch.int64)), TypeError, "x: a floating-point tensor"),
        (dict(weight=torch.zeros(8)), ValueError, "weight: shape .* has 1 dimensions"),
        (dict(bias=torch.zeros(4)), ValueError, r"bias: shape \[4\].*\[64\]"),
        (dict(gate=torch.zeros(3, 64)), ValueError, r"gate: needs x as \[B, S, K\]"),
        (dict(residual=torch.zeros(3, 4)), ValueError, r"residual: shape \[3, 4\], but \[3, 64\]"),
        (dict(out=torch.zeros(3, 4)), ValueError, r"out: shape \[3, 4\], but \[3, 64\]"),
        (dict(out=torch.zeros(3, 64).double()), ValueError, "out: must have x's dtype"),
        (dict(activation="relu"), ValueError, "activation: 'relu' is not one of None, 'gelu_tanh'"),
        (dict(activation_from=5), ValueError, "activation_from: 5 is not a multiple of 32"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        ops.linear(**dict(x=torch.zeros(3, 8), weight=torch.zeros(64, 8)) | arguments)
