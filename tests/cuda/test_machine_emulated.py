"""Every CUDA op on other machines than it expects: the right device and stream, or one clear sentence."""

from __future__ import annotations

import re

import pytest
import torch
from emulated import ROOT, kernels

BF16, E4M3 = torch.bfloat16, torch.float8_e4m3fn
HEADS, OUT = torch.zeros(2, 1, 2, 1, 64, dtype=BF16)  # passed by address: must stay


def volume(*shape):
    return torch.zeros(shape, dtype=BF16).contiguous(memory_format=torch.channels_last_3d)


def tokens(**more):
    x, vector = torch.zeros(1, 2, 16, dtype=BF16), torch.zeros(1, 16, dtype=BF16)
    return dict(x=x, out=x.clone(), batch=1, tokens=2, channels=16, x_token_stride=16, dtype=BF16, **more), vector


def calls():
    """op: the smallest call of it."""
    modulate, vector = tokens(eps=1e-6)
    gated, _ = tokens(y=torch.zeros(1, 2, 16, dtype=BF16), y_token_stride=16)
    small = dict(batch=1, frames=1, rows=2, columns=2, channels=16)
    rows = torch.zeros(2, 16, dtype=BF16)
    strides = {f"{name}_stride": (128, 64, 64) for name in ("q", "k", "v", "out")}
    return {
        "layer_norm_modulate": modulate | dict(shift=vector, scale=vector),
        "gate_residual": gated | dict(gate=vector),
        "group_norm_silu": small | dict(
            x=volume(1, 16, 1, 2, 2), out=volume(1, 16, 1, 2, 2), groups=4, eps=1e-6, channels_last=1, dtype=BF16,
            workspace=torch.zeros(4096, dtype=torch.uint8),
        ),
        "pad_causal": dict(
            x=volume(1, 16, 1, 2, 2), out=volume(1, 16, 1, 4, 4), planes=1, frames=1, rows=2, columns=2, cell_bytes=32,
            pad_rows=1, pad_columns=1,
        ),
        "causal_conv3d": small | dict(
            x=volume(1, 16, 1, 2, 2), weight=volume(8, 16, 1, 1, 1), out=volume(1, 8, 1, 2, 2), out_channels=8,
            kernel=(1, 1, 1), stride=(1, 1, 1), dtype=BF16, bias_dtype=BF16,
        ),
        "quantize_rows": dict(
            x=rows, out=rows.to(E4M3), scale=torch.zeros(2), rows=2, columns=16, x_row_stride=16, dtype=BF16
        ),
        "linear_fp8": dict(
            x=rows.to(E4M3), x_scale=torch.ones(2), weight=torch.zeros(16, 16).to(E4M3), weight_scale=torch.ones(1),
            out=rows.clone(), rows=2, in_columns=16, out_columns=16, tokens=1,
        ),
        "linear_few_rows": dict(
            x=rows, weight=torch.zeros(16, 16).to(E4M3), weight_scale=torch.ones(1), out=rows.clone(), rows=2,
            in_columns=16, out_columns=16, x_row_stride=16, tokens=1,
        ),
        "qk_norm_rope": dict(
            **{"in": (HEADS.data_ptr(),) * 2}, out=(OUT.data_ptr(),) * 2, batch=1, tokens=2, heads=1,
            head_dim=64, in_batch_stride=(128, 128), in_token_stride=(64, 64), in_head_stride=(64, 64),
            out_batch_stride=(128, 128), out_token_stride=(64, 64), out_head_stride=(64, 64), dtype=BF16,
        ),
        "attention": dict(
            q=HEADS, k=HEADS, v=HEADS, out=OUT, batch=1, queries=2, keys=2, heads=1, head_dim=64, scale=1.0,
            dtype=BF16, **strides,
        ),
    }  # fmt: skip


OPS = list(calls())


@pytest.fixture(autouse=True)
def usual_machine_afterwards():
    yield
    kernels().machine()


@pytest.mark.parametrize("op", OPS)
def test_runs_on_the_device_and_stream_of_its_tensors(op):
    kernels().machine(device=1, stream=0x5150)
    kernels().call(op, **calls()[op])
    history = kernels().history()
    assert history.pop("launches") >= 1
    assert history == {"device": 1, "stream": 0x5150, "current": 0}, "another device stays the current one"


NO_DEVICE = "hunyuan_ext: there is no CUDA device, or its driver is older than this build"
REFUSALS = {
    "old driver": (35, NO_DEVICE),
    "no device": (100, NO_DEVICE),
    "wrong architecture": (209, "hunyuan_ext: has no kernel for the architecture of this device; hunyuan_ext.cap"),
    "anything else": (719, "hunyuan_ext: emulated"),
}


@pytest.mark.parametrize("why", REFUSALS)
@pytest.mark.parametrize("op", OPS)
def test_a_failing_runtime_gives_one_sentence(op, why):
    error, sentence = REFUSALS[why]
    kernels().machine(refusal=error)
    with pytest.raises(RuntimeError) as caught:
        kernels().call(op, **calls()[op])
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)
    assert kernels().history()["launches"] == 0


@pytest.mark.parametrize("op", OPS)
def test_a_device_that_does_not_exist(op):
    kernels().machine(device=7)
    with pytest.raises(RuntimeError, match="hunyuan_ext: the CUDA device of the tensors does not exist"):
        kernels().call(op, **calls()[op])
    assert kernels().history()["current"] == 0


@pytest.mark.parametrize(
    ("op", "capability", "sentence"),
    [
        ("causal_conv3d", 75, "causal_conv3d: needs a GPU of compute capability 8.0 or later, this one has 7.5"),
        ("linear_fp8", 75, "linear_fp8: needs a GPU of compute capability 8.9 or 9.0, this one has 7.5"),
        ("linear_fp8", 80, "linear_fp8: needs a GPU of compute capability 8.9 or 9.0, this one has 8.0"),
        ("attention", 75, "attention: needs a GPU of compute capability 8.x or 9.0, this one has 7.5"),
    ],
)
def test_kernels_of_tensor_cores_name_the_architectures_they_need(op, capability, sentence):
    kernels().machine(capability)
    with pytest.raises(RuntimeError, match=sentence):
        kernels().call(op, **calls()[op])


@pytest.mark.parametrize(("op", "capability"), [("causal_conv3d", 80), ("causal_conv3d", 90), ("linear_fp8", 89)])
def test_every_architecture_has_its_kernel(op, capability):
    kernels().machine(capability)
    kernels().call(op, **calls()[op])
    assert kernels().history()["launches"] == 1


CAPTURABLE = {  # what host code may call while a stream is captured into a graph: no allocation, no wait, no copy
    "cudaDeviceGetAttribute", "cudaFuncSetAttribute", "cudaGetDevice", "cudaGetDeviceCount",
    "cudaGetDriverEntryPoint", "cudaGetDriverEntryPointByVersion", "cudaGetErrorName", "cudaGetErrorString",
    "cudaGetLastError", "cudaLaunchKernelEx", "cudaOccupancyMaxActiveClusters", "cudaSetDevice",
}  # fmt: skip


def test_every_call_of_the_runtime_may_be_captured_into_a_graph():
    sources = [path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".cu", ".cuh", ".h", ".cpp")]
    called = set(re.findall(r"\b(cuda[A-Z]\w*)\(", "\n".join(path.read_text() for path in sources)))
    assert called == CAPTURABLE
