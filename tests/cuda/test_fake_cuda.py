"""Choices for a GPU, on a machine without one: picks by architecture, graphs of fake CUDA tensors."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import hunyuan_ext as ops
from hunyuan_ext.attention import cuda as attention_kernels
from hunyuan_ext.core import dispatch, native
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, TransformerConfig, VAEConfig
from hunyuan_video.models.vae.blocks import ResnetBlock

ARCHS = ("sm_80", "sm_89", "sm_90a")
BF16 = torch.bfloat16
CUDA = torch.device("cuda:0")
TINY = TransformerConfig(
    hidden_size=256, num_heads=2, double_blocks=1, single_blocks=1, mlp_ratio=4, in_channels=16, out_channels=16,
    patch_size=(1, 2, 2), rope_dims=(16, 56, 56), text_dim=64, pooled_text_dim=32, guidance_embed=True,
)  # fmt: skip


@pytest.fixture(autouse=True)
def inference():
    with torch.no_grad():
        yield


@pytest.fixture
def machine(monkeypatch):
    """machine((9, 0)): from now on there is such a GPU, and kernels for ARCHS were built."""
    monkeypatch.setattr(native, "module", native.module or SimpleNamespace())

    def pretend(capability, archs=ARCHS):
        monkeypatch.setattr(native, "cuda_archs", lambda: archs)
        monkeypatch.setattr(native, "cuda_capability", lambda index: capability)
        native.forget()

    yield pretend
    monkeypatch.undo()
    native.forget()


TENSOR_CORE_KERNELS = {"attention", "attention_fp8", "causal_conv3d", "linear_fp8"}


@pytest.mark.parametrize(
    ("capability", "kernels"),
    [
        ((7, 5), None),
        ((8, 0), {"attention", "causal_conv3d"}),
        ((8, 6), {"attention", "causal_conv3d"}),
        ((8, 9), {"attention", "causal_conv3d", "linear_fp8"}),
        ((9, 0), TENSOR_CORE_KERNELS),
        ((10, 0), None),
    ],
)
def test_kernels_by_architecture(machine, capability, kernels):
    machine(capability)
    for op, kernel in dispatch.KERNELS.items():
        if BF16 not in kernel.dtypes.get("cuda", ()):
            continue
        choice = dispatch.choice(op, "cuda", BF16, 0)
        runs = kernels is not None and (op in kernels or op not in TENSOR_CORE_KERNELS)
        assert choice.native == runs, op
        assert f"this device is sm_{capability[0]}{capability[1]}" in choice.reason


def test_devices_are_asked_one_by_one(machine, monkeypatch):
    machine(None)
    monkeypatch.setattr(native, "cuda_capability", lambda index: (9, 0) if index == 0 else (7, 5))
    assert dispatch.choice("attention", "cuda", BF16, 0).native
    assert not dispatch.choice("attention", "cuda", BF16, 1).native


def test_no_gpu_and_no_kernels_are_told(machine):
    machine(None)
    assert dispatch.choice("attention", "cuda", BF16) == (False, "torch finds no usable CUDA device")
    machine((9, 0), archs=())
    assert dispatch.choice("attention", "cuda", BF16) == (False, "built without CUDA kernels")


class OnDevice:
    """Tensor as the binding reads it, on a CUDA device that need not exist."""

    dtype, shape, device = torch.float32, (1, 2, 4), SimpleNamespace(type="cuda", index=0)

    def __init__(self, *shape):
        self.shape = shape
        self.memory = torch.zeros(shape)
        self.stride, self.data_ptr, self.element_size = self.memory.stride, self.memory.data_ptr, lambda: 4


@pytest.mark.skipif(native.module is None or torch.cuda.is_available(), reason="needs the native module, and no GPU")
def test_kernels_without_a_gpu_say_so_in_one_sentence(monkeypatch):
    module = native.module
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
    x, vector = OnDevice(1, 2, 4), OnDevice(1, 4)
    wanted = "there is no CUDA device, or its driver is older than this build"
    if not native.cuda_archs():
        wanted = "hunyuan_ext was built without CUDA kernels; rebuild it where nvcc is on PATH with HUNYUAN_CUDA=ON"
    module.use_exchange_api(None)
    try:
        for call in (
            lambda: module.layer_norm_modulate(x, vector, vector, x, 1e-6, 1),
            lambda: module.gate_residual(x, x, vector, x, 1),
        ):
            with pytest.raises(RuntimeError, match=re.escape(wanted)) as caught:
                call()
            assert "\n" not in str(caught.value)
    finally:
        module.use_exchange_api(getattr(torch.Tensor, "__dlpack_c_exchange_api__", None))


@pytest.fixture(scope="module")
def fake_devices(tmp_path_factory):
    """Makes operations on fake CUDA tensors possible with a torch that was built without CUDA."""
    if torch.version.cuda is not None:
        return
    if shutil.which("g++") is None:
        pytest.skip("a torch without CUDA needs g++ here")
    library = tmp_path_factory.mktemp("guard") / "no_op_guard.so"
    torch_folder = Path(torch.__file__).parent
    source = Path(__file__).with_name("no_op_guard.cpp")
    command = ["g++", "-std=c++20", "-shared", "-fPIC", f"-I{torch_folder / 'include'}", str(source)]
    subprocess.run([*command, f"-L{torch_folder / 'lib'}", "-lc10", "-o", str(library)], check=True)
    ctypes.CDLL(str(library))


def fake_transformer() -> HunyuanVideoTransformer:
    with torch.device("meta"):
        return HunyuanVideoTransformer(TINY).to(BF16).eval().requires_grad_(False)


def move_to_cuda(model: torch.nn.Module) -> None:
    """Replaces parameters and buffers by fake ones on the device."""
    for part in model.modules():
        for table in (part._parameters, part._buffers):
            for name, value in table.items():
                if value is not None:
                    fake = torch.empty_like(value, device=CUDA)
                    table[name] = torch.nn.Parameter(fake, False) if table is part._parameters else fake


def transformer_inputs(tokens=12):
    like = dict(device=CUDA, dtype=BF16)
    conditions = dict(
        text=torch.empty(1, tokens, 64, **like), text_mask=torch.ones(1, tokens, device=CUDA, dtype=torch.int64),
        pooled_text=torch.empty(1, 32, **like), guidance=torch.empty(1, device=CUDA),
    )  # fmt: skip
    return (torch.empty(1, 16, 3, 8, 8, **like), torch.empty(1, device=CUDA)), conditions


def compiled_nodes(function, *args, **kwargs):
    """(result, how often the one graph calls what) of a function compiled with fullgraph=True."""
    graphs = []

    def remember(graph, _):
        graphs.append(Counter(str(node.target) for node in graph.graph.nodes if node.op.startswith("call")))
        return graph

    torch.compiler.reset()
    result = torch.compile(function, backend=remember, fullgraph=True)(*args, **kwargs)
    assert len(graphs) == 1
    return result, graphs[0]


def test_the_transformer_is_one_graph_of_cuda_kernels(machine, fake_devices):
    machine((9, 0))
    model = fake_transformer()
    with FakeTensorMode(allow_non_fake_inputs=True):
        move_to_cuda(model)
        args, kwargs = transformer_inputs()
        velocity, nodes = compiled_nodes(model, *args, **kwargs)
    assert velocity.shape == args[0].shape and velocity.dtype == BF16 and velocity.device == CUDA
    wanted = {"attention": 4, "qk_norm_rope": 2}  # both blocks and two of the token refiner, which has no norm
    assert {name: nodes[f"hunyuan_ext.{name}"] for name in wanted} == wanted
    assert nodes["hunyuan_ext.layer_norm_modulate"] >= 5 and nodes["hunyuan_ext.gate_residual"] >= 5
    composed = [name for name in nodes if re.search("scaled_dot_product|layer_norm(?!_modulate)|rms_norm", name)]
    assert all("layer_norm" in name for name in composed), composed  # only the refiner's, which have weights


def test_fp8_attention_takes_what_the_projections_leave(machine, fake_devices, monkeypatch):
    """Norm, rotation and quantization belong to the op: no pass of their own in the graph."""
    monkeypatch.setattr(attention_kernels, "FP8_TOKENS", 0)
    machine((9, 0))
    model = fake_transformer()
    for block in (*model.double_blocks, *model.single_blocks):
        block.attention_precision = "fp8"
    with FakeTensorMode(allow_non_fake_inputs=True):
        move_to_cuda(model)
        args, kwargs = transformer_inputs()
        _, nodes = compiled_nodes(model, *args, **kwargs)
    assert nodes["hunyuan_ext.rope_attention_fp8"] == 2 and nodes["hunyuan_ext.qk_norm_rope"] == 0


def test_the_vae_layers_are_in_the_graph(machine, fake_devices):
    machine((8, 0))

    def block(x, weight, bias, kernel):
        hidden = ops.group_norm_silu(x, weight, bias, groups=8, pad=(2, 1, 1))
        return ops.causal_conv3d(hidden, kernel, bias, residual=x, padded=True)

    with FakeTensorMode():
        last = dict(device=CUDA, dtype=BF16, memory_format=torch.channels_last_3d)
        x, kernel = torch.empty(1, 64, 3, 8, 8, **last), torch.empty(64, 64, 3, 3, 3, **last)
        vector = torch.empty(64, device=CUDA, dtype=BF16)
        out, nodes = compiled_nodes(block, x, vector, vector, kernel)
        assert out.shape == x.shape and out.is_contiguous(memory_format=torch.channels_last_3d)
    assert nodes["hunyuan_ext.group_norm_silu"] == nodes["hunyuan_ext.causal_conv3d"] == 1


def test_the_vae_decoder_is_one_graph_of_cuda_kernels(machine, fake_devices):
    machine((9, 0))
    config = VAEConfig(block_out_channels=(64,) * 4, layers_per_block=1, norm_groups=8, mid_attention=False)
    with torch.device("meta"):
        decoder = CausalVAE(config).to(BF16).eval().requires_grad_(False).decoder
    with FakeTensorMode(allow_non_fake_inputs=True):
        move_to_cuda(decoder)
        latents = torch.empty(1, 16, 2, 8, 8, device=CUDA, dtype=BF16)  # contiguous: the first convolution turns it
        video, nodes = compiled_nodes(decoder, latents)
    assert video.shape[1] == 3 and video.device == CUDA
    parts = [type(part).__name__ for part in decoder.modules()]
    assert nodes["hunyuan_ext.causal_conv3d"] == parts.count("CausalConv3d")
    assert nodes["hunyuan_ext.group_norm_silu"] == parts.count("GroupNorm")


def test_the_vae_hands_moments_to_its_norms(monkeypatch):
    """Between the two convolutions of a block the norm gets the statistics that the first one left."""
    handed = []
    convolve, norm = ops.causal_conv3d_moments, ops.group_norm_silu
    monkeypatch.setattr(
        ops, "causal_conv3d_moments", lambda *a, **k: (convolve(*a, **k)[0], f"of {k['groups']} groups")
    )

    def remember(x, *args, moments, **options):
        handed.append(moments)
        return norm(x, *args, **options)

    monkeypatch.setattr(ops, "group_norm_silu", remember)
    ResnetBlock(8, 16, 4)(torch.zeros(1, 8, 2, 3, 3))
    assert handed == [None, "of 4 groups"]


def test_training_composes_differentiable_operations(machine, fake_devices):
    """With gradients no kernel of this package is in the graph: the backward pass is torch's own."""
    machine((9, 0))

    def block(x, shift):
        return ops.gate_residual(x, ops.layer_norm_modulate(x, shift, shift), shift)

    with FakeTensorMode():
        x = torch.empty(1, 6, 16, device=CUDA, dtype=BF16)
        shift = torch.empty(1, 16, device=CUDA, dtype=BF16)
        _, nodes = compiled_nodes(block, x, shift)
        assert nodes["hunyuan_ext.gate_residual"] == nodes["hunyuan_ext.layer_norm_modulate"] == 1
        with torch.enable_grad():
            out, nodes = compiled_nodes(block, x.requires_grad_(), shift)
    assert out.requires_grad and not [name for name in nodes if name.startswith("hunyuan_ext")]
