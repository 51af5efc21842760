"""Choosing between native and composed: environment, gradients, autocast, strange tensors, the report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from op_accuracy import needs_native, poisoned_outputs  # noqa: F401

import hunyuan_ext as ops
from hunyuan_ext import reference
from hunyuan_ext.core import native

ROOT = Path(__file__).resolve().parents[2]
REPORT = """
import json, hunyuan_ext
facts = hunyuan_ext.capabilities()
print(json.dumps({"isa": facts["machine"]["isa"], "backend": facts["backend"],
                  "norm": facts["ops"]["layer_norm_modulate"]["cpu"]["float32"]["implementation"]}))
"""


def in_subprocess(**environment):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'python'}"} | environment
    return subprocess.run([sys.executable, "-c", REPORT], capture_output=True, text=True, env=environment)


@needs_native
def test_the_environment_forces_an_instruction_set():
    result = in_subprocess(HUNYUAN_EXT_ISA="scalar")
    assert json.loads(result.stdout) == {"isa": "scalar", "backend": "auto", "norm": "native"}, result.stderr


def test_the_environment_forces_the_reference():
    result = in_subprocess(HUNYUAN_EXT_BACKEND="reference")
    assert json.loads(result.stdout)["norm"] == "torch", result.stderr


@pytest.mark.parametrize("value", ["sse2", "", "AVX2"])
def test_unknown_values_are_named(value, monkeypatch):
    monkeypatch.setenv("HUNYUAN_EXT_ISA", value)
    with pytest.raises(ValueError, match=f"HUNYUAN_EXT_ISA={value}: use one of scalar, avx2, avx512"):
        native.from_environment("HUNYUAN_EXT_ISA", native.LEVELS)


def test_without_the_native_module_ops_are_composed(switches):
    switches.setattr(native, "module", None)
    switches.setattr(native, "missing", "hunyuan_ext._C is not built")
    x, shift = torch.randn(1, 2, 4), torch.randn(1, 4)
    assert torch.equal(ops.layer_norm_modulate(x, shift, shift), reference.layer_norm_modulate(x, shift, shift))
    report = ops.capabilities()
    assert report["build"] == {"native": False, "reason": "hunyuan_ext._C is not built"}
    assert report["ops"]["gate_residual"]["cpu"]["float32"]["implementation"] == "torch"
    switches.setattr(native, "mode", "native")
    native.forget()
    assert ops.capabilities()["backend"] == "native"
    with pytest.raises(RuntimeError, match="HUNYUAN_EXT_BACKEND=native, but hunyuan_ext._C is not built"):
        ops.layer_norm_modulate(x, shift, shift)


def test_capabilities_are_plain_data_and_complete():
    report = ops.capabilities()
    assert json.loads(json.dumps(report)) == report
    public = {"rope_attention", "causal_conv3d", "group_norm_silu", "layer_norm_modulate", "gate_residual"}
    linears = {"linear", "fp8_linear", "int8_linear", "quantize_fp8", "quantize_int8"}
    assert set(report["ops"]) == public | linears
    for op in report["ops"].values():
        for choice in op["cpu"].values():
            assert choice["implementation"] in ("native", "torch", "native + torch") and choice["reason"]
    assert report["machine"]["cpu"] and report["machine"]["threads"] == torch.get_num_threads()


@needs_native
@pytest.mark.parametrize("mode", ["auto", "reference"])
def test_capabilities_tell_which_gradients_are_native(switches, mode):
    switches.setattr(native, "mode", mode)
    q = torch.randn(1, 8, 1, 16, dtype=torch.bfloat16, requires_grad=True)
    x, row = q.view(1, 8, 16), torch.zeros(1, 16, dtype=torch.bfloat16)
    results = {
        "rope_attention": ops.rope_attention(q, q, q),
        "layer_norm_modulate": ops.layer_norm_modulate(x, row, row),
        "gate_residual": ops.gate_residual(x, x, row),
        "split_gelu": ops.split_gelu(x, 8)[1],
    }
    training = ops.capabilities()["training"]
    own = {"RopeAttentionBackward", "LayerNormModulateBackward", "GateResidualBackward", "SplitGeluBackward"}
    ran = {op: "native" if type(out.grad_fn).__name__ in own else "torch" for op, out in results.items()}
    assert {op: report["implementation"] for op, report in training.items()} == ran


@needs_native
def test_capabilities_tell_what_runs(monkeypatch):
    calls = []
    original = native.module.layer_norm_modulate
    monkeypatch.setattr(native.module, "layer_norm_modulate", lambda *a: (calls.append(1), original(*a)))
    x, shift = torch.randn(1, 2, 4), torch.randn(1, 4)
    for mode in ("native", "reference"):
        with native.forced(mode):
            calls.clear()
            ops.layer_norm_modulate(x, shift, shift)
            implementation = ops.capabilities()["ops"]["layer_norm_modulate"]["cpu"]["float32"]["implementation"]
            assert bool(calls) == (implementation == "native")


@needs_native
def test_gradients_autocast_and_subclasses_are_composed(monkeypatch):
    monkeypatch.setattr(native.module, "layer_norm_modulate", lambda *a: pytest.fail("native kernel called"))
    x, shift = torch.randn(1, 2, 4), torch.randn(1, 4)

    class Tagged(torch.Tensor):
        pass

    with native.forced("native"):
        for tensor in (x.clone().requires_grad_(), x.half(), x.as_subclass(Tagged), x.to("meta")):
            ops.layer_norm_modulate(tensor, shift.to(tensor.device), shift.to(tensor.device))
        with torch.autocast("cpu", torch.bfloat16):
            ops.layer_norm_modulate(x, shift, shift)
        torch.vmap(lambda y: ops.layer_norm_modulate(y, shift, shift))(x[None].expand(3, -1, -1, -1))


@needs_native
def test_parameters_without_gradient_run_native(monkeypatch):
    called = []
    monkeypatch.setattr(native.module, "layer_norm_modulate", lambda *a: called.append(1))
    x, shift = torch.randn(1, 2, 4), torch.nn.Parameter(torch.randn(1, 4))
    with torch.no_grad():
        ops.layer_norm_modulate(x, shift, shift)
    assert called


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int64])
def test_tensors_read_the_same_with_and_without_the_exchange_api(dtype):
    tensors = [
        torch.zeros(2, 3, 4).to(dtype).transpose(0, 2)[1:],
        torch.zeros(()).to(dtype),
        torch.zeros(0, 5).to(dtype),
        torch.nn.Parameter(torch.zeros(3, 1).to(dtype), requires_grad=False),
    ]
    described = [native.module.describe(tensor) for tensor in tensors]
    native.module.use_exchange_api(None)
    try:
        assert [native.module.describe(tensor) for tensor in tensors] == described
        x, shift = torch.randn(1, 2, 4), torch.randn(1, 4)
        with native.forced("native"):
            torch.testing.assert_close(
                ops.layer_norm_modulate(x, shift, shift), reference.layer_norm_modulate(x, shift, shift)
            )
    finally:
        native.module.use_exchange_api(torch.Tensor.__dlpack_c_exchange_api__)
    for tensor, (shape, stride, _, device, address) in zip(tensors, described, strict=True):
        assert (shape, device, address) == (tuple(tensor.shape), -1, tensor.data_ptr())
        assert stride == tensor.stride() or 1 in shape or 0 in shape


@needs_native
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c, x, v: c.layer_norm_modulate(x, v, v, None, 1e-6, 1), TypeError, "out: a dense torch.Tensor"),
        (lambda c, x, v: c.layer_norm_modulate(x, v, v.bfloat16(), x, 1e-6, 1), TypeError, "scale: has another dtype"),
        (lambda c, x, v: c.layer_norm_modulate(x, v[:, :3], v, x, 1e-6, 1), ValueError, "shift: its shape"),
        (lambda c, x, v: c.layer_norm_modulate(x, v, v, x.transpose(0, 1), 1e-6, 1), ValueError, "out: its"),
        (lambda c, x, v: c.layer_norm_modulate(x.to("meta"), v, v, x, 1e-6, 1), TypeError, "x: "),
        (
            lambda c, x, v: c.layer_norm_modulate(x.double(), v.double(), v.double(), x.double(), 1e-6, 1),
            TypeError,
            "float32 or bfloat16",
        ),
        (lambda c, x, v: c.describe(torch.zeros((1,) * 7)), ValueError, "tensor: has more than 6 dimensions"),
        (lambda c, x, v: c.set_isa(7), ValueError, "isa: 7 is not a level"),
        (lambda c, x, v: c.use_exchange_api(object()), ValueError, "PyCapsule"),
    ],
)
def test_the_binding_protects_memory(call, error, message):
    with pytest.raises(error, match=message):
        call(native.module, torch.zeros(2, 3, 4), torch.zeros(2, 4))
    native.module.use_exchange_api(torch.Tensor.__dlpack_c_exchange_api__)


@needs_native
def test_the_lock_is_released_while_a_kernel_works():
    import threading

    x, shift = torch.randn(1, 4000, 1000), torch.randn(1, 1000)
    expected = ops.layer_norm_modulate(x, shift, shift)
    results = [None] * 4

    def work(i):
        for _ in range(3):
            results[i] = ops.layer_norm_modulate(x, shift, shift)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(result, expected) for result in results)


def test_import_does_not_load_the_compiler_or_other_packages():
    code = "import sys, torch; before = set(sys.modules); import hunyuan_ext; print(*sorted(set(sys.modules) - before))"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'python'}"}
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    heavy = ("torch._dynamo", "torch._inductor", "sympy", "diffusers", "transformers", "hunyuan_video")
    assert not [name for name in loaded.stdout.split() if name.startswith(heavy)]
