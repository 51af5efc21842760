"""The short cut of eager inference gives the bits of the long way, and leaves to it what it cannot take."""

import pytest
import torch
from op_accuracy import DTYPES, needs_native
from torch.utils._python_dispatch import TorchDispatchMode

import hunyuan_ext as ops
from hunyuan_ext import _backend, _cpu_linear, _direct

pytestmark = needs_native
HAS_BFLOAT16 = _cpu_linear.find_row("bfloat16") is not None


class Subclass(torch.Tensor):
    pass


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def calls(dtype):
    """Name of a short cut -> a call of its op with tensors that it takes."""
    x, y, bias, gate = (torch.randn(shape).to(dtype) for shape in ((2, 5, 32), (2, 5, 32), 32, (2, 32)))
    weight, wide = torch.nn.Parameter(torch.randn(32, 32).to(dtype)), torch.randn(32, 64).to(dtype)
    q, k, v = torch.randn(2, 5, 6, 32).to(dtype).split(2, dim=2)
    norm, table = torch.rand(32).to(dtype), torch.randn(3, 32)
    return {
        "layer_norm_modulate": lambda x=x, shift=gate: ops.layer_norm_modulate(x, shift, gate),
        "gate_residual": lambda x=x, y=y: ops.gate_residual(x, y, gate),
        "linear": lambda x=x, **options: ops.linear(x, weight, bias, gate=gate, residual=y, **options),
        "linear of two": lambda x=x, **options: ops.linear((x, y), wide, activation="gelu_tanh", **options),
        "linear of rows": lambda x=x[0]: ops.linear(x, weight, bias),
        "rope_attention": lambda x=q, **options: ops.rope_attention(
            x, k, v, q_norm=norm, k_norm=norm, text_len=2, rope=(table, table), kv_len=torch.tensor([4, 5]), **options
        ),
    }  # fmt: skip


def short_cut(name):
    return name.split()[0]


def taken(monkeypatch, name):
    """What the short cut of an op returns from now on."""
    results, original = [], getattr(_direct, short_cut(name))

    def record(*arguments):
        results.append(original(*arguments))
        return results[-1]

    monkeypatch.setattr(_direct, short_cut(name), record)
    return results


NAMES = list(calls(torch.float32))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_same_bits_as_the_long_way(name, dtype, monkeypatch):
    if "linear" in name and dtype == torch.bfloat16 and not HAS_BFLOAT16:
        pytest.skip("no unit multiplies bfloat16 here")
    call = calls(dtype)[name]
    with torch.no_grad(), _backend.forced("native"):
        results = taken(monkeypatch, name)
        out = call()
        assert results and results[0] is out
        monkeypatch.setattr(_direct, short_cut(name), lambda *_: None)
        assert torch.equal(call(), out)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_watched_and_strange_calls_go_the_long_way(name, dtype, monkeypatch):
    call = calls(dtype)[name]
    results = taken(monkeypatch, name)
    with _backend.forced("native"):
        call()  # gradients are enabled
        with torch.no_grad():
            with torch.autocast("cpu", torch.bfloat16):
                call()
            with Watching():
                call()
            original = next(one for one in call.__defaults__)
            call(original.as_subclass(Subclass))
            with _backend.forced("reference"):
                torch.func.vmap(lambda _, call=call: call(), out_dims=None)(torch.zeros(1))
    assert len(results) == 5 and all(one is None for one in results)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mistakes_are_named_without_gradients_too(dtype):
    short, table = torch.zeros(2, 5, 31, dtype=dtype), calls(dtype)
    q = torch.zeros(2, 5, 2, 30, dtype=dtype)
    with torch.no_grad():
        for name, argument, message in (
            ("layer_norm_modulate", short, "shift: shape"),
            ("gate_residual", short, "y: shape"),
            ("linear", short, "x: its last dimension is 31, but weight has 32 columns"),
            ("linear of rows", short, "x: its last dimension is 31, but weight has 32 columns"),
            ("rope_attention", q, "k: shape"),
        ):
            with pytest.raises(ValueError, match=message):
                table[name](argument)
        for options, message in (
            (dict(activation_from=7), "activation_from: 7 is not a multiple"),
            (dict(out=torch.empty(2, 5, 33, dtype=dtype)), "out: shape"),
            (dict(out=torch.empty(2, 5, 32, dtype=torch.float64)), "out: must have x's dtype"),
        ):
            with pytest.raises(ValueError, match=message):
                table["linear"](activation="gelu_tanh", **options)
        with pytest.raises(ValueError, match="activation: 'relu' is not one of"):
            table["linear"](activation="relu")
        with pytest.raises(ValueError, match="eps: must be positive"):
            table["rope_attention"](eps=0.0)
        with pytest.raises(ValueError, match="kv_len: 6 valid tokens"):
            ops.rope_attention(*torch.zeros(3, 1, 5, 1, 32, dtype=dtype), kv_len=torch.tensor([6]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_a_kernel_refuses_is_still_computed(dtype):
    x, gate = torch.randn(2, 5, 32).to(dtype), torch.randn(2, 32).to(dtype)
    apart = torch.randn(2, 5, 64).to(dtype)[..., ::2]
    with torch.no_grad(), _backend.forced("native"):
        assert torch.equal(ops.gate_residual(apart, x, gate), ops.gate_residual(apart.contiguous(), x, gate))
        assert ops.gate_residual(x, x, gate.double()).shape == x.shape
        assert ops.gate_residual(x.to("meta"), x.to("meta"), gate.to("meta")).is_meta
        weight = torch.randn(32, 64).to(dtype)[:, ::2]
        assert torch.equal(ops.linear(apart, weight), ops.linear(apart.contiguous(), weight.contiguous()))
