"""Whole models, eagerly, with every CUDA kernel in its place: the emulated device behind the ops, on CPU tensors."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from emulated import binding
from on_device import as_on_cuda
from test_fake_cuda import TINY

from hunyuan_ext.attention import cuda as attention_kernels
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, VAEConfig
from hunyuan_video.models.fp8 import convert_to_fp8_modules
from hunyuan_video.models.transformer.chunks import TokenChunks
from hunyuan_video.models.transformer.executor import PLAIN

BF16 = torch.bfloat16


@pytest.fixture
def device():
    """device(): from now on CPU tensors are those of a GPU of compute capability 9.0; counts the kernels called."""
    module, counts = binding(), Counter()

    def counted(name):
        def call(*arguments):
            with_moments = name == "group_norm_silu" and arguments[8] is not None
            counts[f"{name} of moments" if with_moments else name] += 1
            return getattr(module, name)(*arguments)

        return call

    names = ("attention", "attention_fp8", "qk_norm_rope", "layer_norm_modulate", "layer_norm_modulate_fp8")
    names += ("gate_residual", "group_norm_silu", "pad_causal", "causal_conv3d", "quantize_rows", "linear_fp8")
    names += ("linear_few_rows", "quantized_linear_fp8")
    sizes = ("attention_fp8_workspace", "group_norm_silu_workspace", "causal_conv3d_moment_chunks")
    spy = SimpleNamespace(**{name: counted(name) for name in names}, **{n: getattr(module, n) for n in sizes})
    with contextlib.ExitStack() as stack:

        def begin():
            stack.enter_context(as_on_cuda(spy))
            return counts

        yield begin


def transformer(config=TINY):
    torch.manual_seed(0)
    model = HunyuanVideoTransformer(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


def inputs(dtype):
    text_mask = torch.arange(12)[None] < torch.tensor([12, 7])[:, None]
    tensors = [torch.randn(shape) for shape in ((2, 16, 3, 8, 8), (2, 12, 64), (2, 32))]
    latents, text, pooled = (x.to(BF16).to(dtype) for x in tensors)
    condition = dict(text=text, text_mask=text_mask, pooled_text=pooled, guidance=torch.tensor([6000.0, 1000.0]))
    return latents, torch.tensor([500.0, 20.0]), condition


def error(out, exact):
    return float((out.double() - exact).norm() / exact.norm())


@torch.no_grad()
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_transformer(device, monkeypatch, precision):
    """Texts of two lengths, so with lengths of keys; in FP8 the layers, too."""
    monkeypatch.setattr(attention_kernels, "FP8_TOKENS", 0)
    model = transformer().to(BF16)
    latents, time, condition = inputs(torch.float64)
    exact = transformer().double()(latents, time, **condition)
    latents, time, condition = inputs(BF16)
    if precision == "fp8":
        convert_to_fp8_modules(model).set_attention_precision("fp8")
    counts = device()
    out = model(latents, time, **condition)
    assert error(out, exact) < {"bf16": 0.03, "fp8": 0.08}[precision], counts
    names = {"bf16": ("attention", "qk_norm_rope"), "fp8": ("attention_fp8", "linear_fp8")}
    names["fp8"] += ("linear_few_rows", "layer_norm_modulate_fp8")
    assert all(counts[name] for name in (*names[precision], "layer_norm_modulate", "gate_residual")), counts


@torch.no_grad()
@pytest.mark.parametrize("image", ["", "token_replace"])
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_transformer_in_parts(device, monkeypatch, precision, image):
    """Attention over the queries, norm and rotation in place, products into what is there: the same values.

    Parts of real sequences are never so short that fp8_linear takes its kernel for few rows.
    """
    monkeypatch.setattr(attention_kernels, "FP8_TOKENS", 0)
    monkeypatch.setattr(importlib.import_module("hunyuan_ext.linear.cuda"), "FEW_ROWS", 0)
    latents, time, condition = inputs(BF16)
    model = transformer(dataclasses.replace(TINY, image_condition=image)).to(BF16)
    exact = model.double()(latents.double(), time, **condition)
    model.to(BF16)
    if precision == "fp8":
        convert_to_fp8_modules(model).set_attention_precision("fp8")
    counts = device()
    model.executor = PLAIN
    whole = model(latents, time, **condition)
    before = counts.copy()
    model.executor = PLAIN.adding(TokenChunks(19))
    in_parts = model(latents, time, **condition)
    assert counts["layer_norm_modulate"] + counts["layer_norm_modulate_fp8"] > 3 * sum(
        before[name] for name in ("layer_norm_modulate", "layer_norm_modulate_fp8")
    )
    assert error(in_parts, exact) < {"bf16": 0.03, "fp8": 0.08}[precision]
    if image and precision == "fp8":  # parts have one vector each, so FP8 goes on where the whole has to leave it
        assert error(in_parts, whole.double()) < 0.08
    else:
        assert torch.equal(in_parts, whole)


@torch.no_grad()
def test_vae_decoder(device):
    torch.manual_seed(0)
    vae = CausalVAE(VAEConfig(block_out_channels=(64,) * 4, layers_per_block=1, norm_groups=8))
    vae.eval().requires_grad_(False)
    latents = torch.randn(1, 16, 2, 1, 2).to(BF16)
    exact = vae.double().decode(latents.double())  # its weights are rounded only then
    for part in vae.to(BF16).modules():
        if isinstance(part, torch.nn.Conv3d):
            weight = part.weight.contiguous(memory_format=torch.channels_last_3d)
            part.weight = torch.nn.Parameter(weight, requires_grad=False)
    plain = error(vae.decode(latents), exact)
    counts = device()
    assert error(vae.decode(latents), exact) < 1.5 * plain + 2e-3, counts
    wanted = ("causal_conv3d", "group_norm_silu", "group_norm_silu of moments", "pad_causal")
    assert all(counts[name] for name in wanted), counts
