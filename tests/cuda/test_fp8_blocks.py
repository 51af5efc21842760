"""Blocks with FP8 weights on a GPU that multiplies FP8: quantization, GELU and gate are no passes of their own."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from emulated import binding
from on_device import as_on_cuda
from test_fake_cuda import (  # noqa: F401  (fixtures)
    compiled_nodes,
    fake_devices,
    fake_transformer,
    inference,
    machine,
    move_to_cuda,
    transformer_inputs,
)
from torch._subclasses.fake_tensor import FakeTensorMode

from hunyuan_ext import Fp8Rows
from hunyuan_ext.core import native
from hunyuan_video.models import TransformerConfig
from hunyuan_video.models.fp8 import FP8Linear, convert_to_fp8_modules
from hunyuan_video.models.transformer.blocks import DoubleBlock, SingleBlock
from hunyuan_video.models.transformer.linear import modulated

BF16 = torch.bfloat16
CONFIG = TransformerConfig(
    hidden_size=128, num_heads=2, double_blocks=1, single_blocks=1, mlp_ratio=2, in_channels=16, out_channels=16,
    patch_size=(1, 2, 2), rope_dims=(16, 24, 24), text_dim=64, pooled_text_dim=32, guidance_embed=True,
)  # fmt: skip


def noted(calls, run, *arguments):
    calls.append(arguments)
    return run(*arguments)


@pytest.fixture
def emulated():
    """The kernels, run by the emulator on CPU tensors; [] collects what a product is given."""
    module, products = binding(), []
    spy = SimpleNamespace(**{name: getattr(module, name) for name in dir(module) if not name.startswith("__")})
    for name in ("linear_fp8", "quantized_linear_fp8", "linear_few_rows"):
        setattr(spy, name, partial(noted, products, getattr(module, name)))
    spy.has_linear_unit = lambda *_: False  # the tensors are on the CPU: its own kernel would take some products
    with as_on_cuda(spy):
        yield products


def block_and_inputs(kind):
    torch.manual_seed(3)
    block = kind(CONFIG).to(BF16).requires_grad_(False)
    for name, module in list(block.named_modules()):
        if isinstance(module, torch.nn.Linear) and "mod" not in name:
            parent, _, leaf = name.rpartition(".")
            setattr(block.get_submodule(parent), leaf, FP8Linear.from_linear(module))
    img, txt, vec = torch.randn(2, 5, 128), torch.randn(2, 3, 128), torch.randn(2, 128)
    rope = torch.ones(5, 64), torch.zeros(5, 64)
    if kind is SingleBlock:
        return block, (torch.cat((img, txt), 1).to(BF16), vec.to(BF16), rope, 3, None)
    return block, (img.to(BF16), txt.to(BF16), vec.to(BF16), rope, None)


@pytest.mark.parametrize(
    ("kind", "first_tokens", "products"),
    [(DoubleBlock, 0, 8), (SingleBlock, 0, 3), (DoubleBlock, 2, 10), (SingleBlock, 2, 3)],
)
def test_blocks_compute_the_same_with_quantized_activations(emulated, kind, first_tokens, products):
    """Also in image-to-video, whose first tokens have gates, and products of their own; its norms do not quantize."""
    block, inputs = block_and_inputs(kind)
    inputs = (*inputs, None, first_tokens, torch.randn(2, 128).to(BF16) if first_tokens else None)
    out = block(*inputs)
    assert len(emulated) == products
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "mode", "reference")
        native.forget()
        composed = block(*inputs)
    for ours, plain in zip(*((x,) if isinstance(x, torch.Tensor) else x for x in (out, composed)), strict=True):
        error = (ours - plain).float().norm() / plain.float().norm()
        assert 0 < error < 0.05, error  # activations in e4m3 and not


def test_a_single_block_multiplies_two_parts(emulated):
    """Attention and MLP go to the second linear side by side, without being joined; the MLP arrives quantized."""
    block, inputs = block_and_inputs(SingleBlock)
    block(*inputs)
    (qkv, *_), (mlp, *_), (head, _, tail, tail_scale, *_) = emulated
    assert [head.shape[-1], tail.shape[-1]] == [128, 256] and tail_scale.shape == (2, 16)
    assert qkv.data_ptr() == mlp.data_ptr()  # the norm's codes, twice


def test_the_two_streams_write_one_tensor(emulated):
    block, inputs = block_and_inputs(DoubleBlock)
    block(*(x[:1] if isinstance(x, torch.Tensor) else x for x in inputs))
    first, second = (arguments[9] for arguments in emulated[:2])
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()


def test_plain_activations_where_something_surrounds_the_linear(emulated):
    x, vector = torch.randn(1, 4, 128).to(BF16), torch.randn(1, 128).to(BF16)
    linear = FP8Linear(128, 128)
    assert isinstance(modulated(x, vector, vector, linear), Fp8Rows)
    with torch.enable_grad():
        assert isinstance(modulated(x, vector, vector, linear), torch.Tensor)
    linear.register_forward_hook(lambda *_: None)
    assert isinstance(modulated(x, vector, vector, linear), torch.Tensor)
    assert isinstance(modulated(x, vector, vector, torch.nn.Linear(128, 128)), torch.Tensor)


def test_fp8_weights_are_in_the_graph_with_their_epilogues(machine, fake_devices):  # noqa: F811
    machine((8, 9))
    model, plain = convert_to_fp8_modules(fake_transformer()), fake_transformer()
    with FakeTensorMode(allow_non_fake_inputs=True):
        move_to_cuda(model)
        args, kwargs = transformer_inputs(tokens=16)
        velocity, nodes = compiled_nodes(model, *args, **kwargs)
    assert velocity.shape == args[0].shape
    wanted = {
        "layer_norm_modulate_fp8": 4 + 1,  # of a double and of a single block
        "linear_fp8_rows": 4 + 2,  # qkv and second MLP layer of both streams; qkv and second linear
        "linear_fp8_quantized": 2 + 1,  # first MLP layer
        "linear_fp8": 2 + 3,  # projections of the attention and modulations, which quantize their input themselves
        "quantize_rows": 1,  # the attention of a single block
    }
    assert {name: nodes[f"hunyuan_ext.{name}"] for name in wanted} == wanted
    modulations = nodes["hunyuan_ext.layer_norm_modulate"]
    with FakeTensorMode(allow_non_fake_inputs=True):
        move_to_cuda(plain)
        args, kwargs = transformer_inputs(tokens=16)
        _, plain_nodes = compiled_nodes(plain, *args, **kwargs)
    gelus = {name for name in plain_nodes if "gelu" in name}
    assert sum(plain_nodes[name] - nodes[name] for name in gelus) == 3, "every GELU of a block is an epilogue"
    assert plain_nodes["hunyuan_ext.gate_residual"] - nodes["hunyuan_ext.gate_residual"] == 4 + 1
    assert plain_nodes["hunyuan_ext.layer_norm_modulate"] - modulations == 4 + 1
