"""Plans: made once for calls alike, never used for calls that are not, and a handful of Python frames long."""

import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from on_device import as_on_cuda
from op_accuracy import DTYPES, needs_native
from torch.utils._python_dispatch import TorchDispatchMode

import hunyuan_ext as ops
from hunyuan_ext import norm
from hunyuan_ext.core import dispatch, native
from hunyuan_ext.linear import cpu

PACKAGE = str(Path(ops.__file__).parent)
HAS_BFLOAT16 = cpu.find_row("bfloat16") is not None


class Subclass(torch.Tensor):
    pass


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def calls(dtype):
    """Name -> a call with tensors that a kernel takes."""
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


NAMES = list(calls(torch.float32))
KERNELS = {"layer_norm_modulate", "gate_residual", "rope_attention"}  # beside them `linear`, for bfloat16


@needs_native
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_remembered_plan_gives_the_bits_of_a_new_one(name, dtype):
    call = calls(dtype)[name]
    with torch.no_grad(), native.forced("native"):
        first = call()
        again = call()
        native.forget()
        assert torch.equal(again, first) and torch.equal(call(), first)


@needs_native
@pytest.mark.parametrize("name", NAMES)
def test_kernels_take_plain_calls_only(name, monkeypatch):
    """Gradients, autocast, modes, transforms and subclasses change the plan of tensors that were seen before."""
    kernel = name.split()[0]
    if kernel == "linear" and not HAS_BFLOAT16:
        pytest.skip("no unit multiplies bfloat16 here")
    dtype = torch.bfloat16 if kernel == "linear" else torch.float32
    counts, run = Counter(), getattr(native.module, kernel)
    monkeypatch.setattr(native.module, kernel, lambda *a: (counts.update([kernel]), run(*a)))
    call = calls(dtype)[name]
    x = call.__defaults__[0]
    with native.forced("native"):
        with torch.no_grad():
            call()
            assert counts[kernel] == 1
            with torch.autocast("cpu", torch.bfloat16):
                call()
            with Watching():
                call()
            call(x.as_subclass(Subclass))
            torch.func.vmap(lambda y: call(y))(torch.stack((x, x)))
        call(x.clone().requires_grad_()) if dtype == torch.float32 else None
        assert counts[kernel] == 1
        with torch.no_grad():
            call()
        assert counts[kernel] == 2


def test_what_a_plan_may_look_at_makes_a_new_one():
    if native.module is None:
        pytest.skip("without the native module nothing is remembered")
    plans = norm.LAYER_NORM.plans
    wide = torch.randn(2, 5, 80)
    x, shift = wide[..., :32].contiguous(), torch.randn(2, 32)

    def grows(x, shift=shift, eps=1e-6):
        before = len(plans)
        ops.layer_norm_modulate(x, shift, shift, eps=eps)
        return len(plans) - before

    native.forget()
    try:
        assert grows(x) == 1 and grows(x.clone()) == 0 and grows(x + 1) == 0
        assert grows(wide[..., :32]) == 1 and grows(wide[..., 32:64]) == 0  # strides; 128 bytes on
        assert grows(wide[..., 1:33]) == 1  # alignment
        assert grows(x, eps=1e-5) == 1 and grows(x[:, :4].contiguous()) == 1 and grows(x.double(), shift.double()) == 1
        with torch.no_grad():
            assert grows(x) == 1 and grows(x.requires_grad_()) == 0
        assert grows(x) == 1
        with torch.autocast("cpu", torch.bfloat16):
            assert grows(x) == 1
        assert grows(x.as_subclass(Subclass)) == 0 and grows(x.to("meta"), shift.to("meta")) == 0
    finally:
        native.forget()


@needs_native
def test_plans_are_bounded(switches):
    switches.setattr(dispatch, "REMEMBERED", 3)
    for tokens in range(1, 9):
        ops.layer_norm_modulate(torch.randn(1, tokens, 8), torch.randn(1, 8), torch.randn(1, 8))
        assert len(norm.LAYER_NORM.plans) <= 3


@needs_native
def test_lengths_are_no_part_of_a_plan(switches):
    from hunyuan_ext.attention import ROPE_ATTENTION

    q = torch.randn(1, 40, 2, 32)
    with torch.no_grad():
        outs = [ops.rope_attention(q, q, q, kv_len=torch.tensor([length])) for length in (40, 7)]
        assert len(ROPE_ATTENTION.plans) == 1 and not torch.equal(*outs)
        with pytest.raises(ValueError, match="kv_len: 41 valid tokens, but 1 to 40 are possible"):
            ops.rope_attention(q, q, q, kv_len=torch.tensor([41]))


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


@needs_native
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_a_kernel_refuses_is_still_computed(dtype):
    x, gate = torch.randn(2, 5, 32).to(dtype), torch.randn(2, 32).to(dtype)
    apart = torch.randn(2, 5, 64).to(dtype)[..., ::2]
    with torch.no_grad(), native.forced("native"):
        assert torch.equal(ops.gate_residual(apart, x, gate), ops.gate_residual(apart.contiguous(), x, gate))
        assert ops.gate_residual(x, x, gate.double()).shape == x.shape
        assert ops.gate_residual(x.to("meta"), x.to("meta"), gate.to("meta")).is_meta
        weight = torch.randn(32, 64).to(dtype)[:, ::2]
        # torch computes the first, the kernel the second: equal up to the order of sums
        torch.testing.assert_close(ops.linear(apart, weight), ops.linear(apart.contiguous(), weight.contiguous()))
        q, norms = torch.randn(1, 5, 2, 32).to(dtype), torch.rand(64).to(dtype)
        strided, dense = norms[::2], norms[::2].contiguous()
        outs = [ops.rope_attention(q, q, q, q_norm=weight, k_norm=weight) for weight in (strided, dense)]
        assert torch.equal(*outs)


def project_frames(call) -> list[str]:
    """The file of each Python frame of this package that a call enters."""
    files = []

    def profile(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            files.append(frame.f_code.co_filename)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files


@needs_native
@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_an_op_is_read_in_at_most_four_files(dtype):
    """From the public function to the kernel, or to torch, in calls whose plan is remembered."""
    x, y, bias, gate = (torch.randn(shape).to(dtype) for shape in ((2, 5, 256), (2, 5, 64), 64, (2, 64)))
    w8, scale = ops.quantize_fp8(torch.randn(64, 256))
    codes, code_scale = ops.quantize_int8(torch.randn(64, 256))
    q, k, v = torch.randn(2, 5, 6, 24).to(dtype).split(2, dim=2)  # a head that is no multiple of 16
    norm, table, volume = torch.rand(24).to(dtype), torch.randn(3, 24), torch.randn(1, 64, 5, 32, 32).to(dtype)
    whole = dict(activation="gelu_tanh", gate=gate, residual=y)
    others = {
        "fp8_linear": lambda: ops.fp8_linear(x, w8, scale, bias),
        "fp8_linear, gated": lambda: ops.fp8_linear(x, w8, scale, bias, **whole),
        "int8_linear": lambda: ops.int8_linear(x, codes, code_scale, bias),
        "split_gelu": lambda: ops.split_gelu(x, 64),
        "attention_with_lse": lambda: ops.attention_with_lse(q, k, v),
        "rope_attention in parts": lambda: ops.rope_attention(q, k, v, q_norm=norm, text_len=2, rope=(table, table)),
        "group_norm_silu": lambda: ops.group_norm_silu(volume, None, None),
    }
    for name, call in {**calls(dtype), **others}.items():
        call()
        files = dict.fromkeys(project_frames(call))
        assert 2 <= len(files) <= 4, (name, list(files))


@needs_native
@torch.no_grad()
def test_a_call_on_a_device_enters_few_frames():
    """From the public function to the kernels' C functions, which do nothing here."""
    q, k, v = torch.randn(1, 24, 3, 2, 128).bfloat16().unbind(2)
    norm, table, kv_len = torch.rand(128).bfloat16(), torch.rand(20, 128), torch.tensor([21])
    x, (w8, scale) = torch.randn(1, 24, 256).bfloat16(), ops.quantize_fp8(torch.randn(512, 256))
    bias, gate, residual = (torch.randn(shape).bfloat16() for shape in (512, (1, 512), (1, 24, 512)))
    done = []
    kernels = ("qk_norm_rope", "attention", "quantized_linear_fp8", "linear_few_rows")
    stubs = SimpleNamespace(**{name: lambda *_, name=name: done.append(name) for name in kernels})

    def attend():
        options = dict(rope=(table, table), q_norm=norm, k_norm=norm, text_norms=(norm, norm), text_len=4)
        return ops.rope_attention(q, k, v, kv_len=kv_len, **options)

    def multiply():
        return ops.fp8_linear(x, w8, scale, bias, activation="gelu_tanh", gate=gate, residual=residual)

    def modulate():
        return ops.fp8_linear(x[:, 0], w8, scale, bias)

    with as_on_cuda(stubs):
        assert attend().shape == q.shape and multiply().shape == residual.shape and modulate().shape == gate.shape
        done.clear()
        for call, most in ((attend, 10), (multiply, 8), (modulate, 8)):
            assert len(project_frames(call)) <= most
        assert done == list(kernels)


@torch.no_grad()
def test_explain_names_the_kernel_of_a_call():
    x, shift = torch.randn(1, 2, 4), torch.randn(1, 4)
    with native.forced("reference"):
        assert ops.explain(ops.layer_norm_modulate, x, shift, shift)["kernel"] == "torch"
    with pytest.raises(ValueError, match="shift: shape"):
        ops.explain(ops.layer_norm_modulate, x, shift[:, :3], shift)
    with pytest.raises(ValueError, match="chooses no kernel"):
        ops.explain(ops.quantize_fp8, torch.randn(2, 2))
    q = torch.randn(1, 200, 2, 128).bfloat16()
    stubs = SimpleNamespace(**{name: lambda *_: pytest.fail("it ran") for name in ("qk_norm_rope", "attention")})
    with as_on_cuda(stubs):
        plan = ops.explain(ops.rope_attention, q, q, q)
        assert plan["kernel"] == "attention" and "this device is sm_90" in plan["reason"]
        short = ops.explain(ops.rope_attention, q, q, q, precision="fp8")
        assert short["kernel"] == "attention" and "bfloat16 below 8192 tokens" in short["reason"]
        long = q[:, :1].expand(1, 8192, 2, 128)
        assert ops.explain(ops.rope_attention, long, long, long, precision="fp8")["kernel"] == "attention_fp8"
        small = q[..., :32]
        assert ops.explain(ops.rope_attention, small, small, small)["kernel"] == "torch"
