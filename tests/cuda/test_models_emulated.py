"""Whole models, eagerly, with every CUDA kernel in its place: the emulated device behind the ops, on CPU tensors."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from emulated import binding
from test_fake_cuda import TINY

from hunyuan_ext import _backend, _cuda, _direct, _native, norm
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, VAEConfig
from hunyuan_video.models.fp8 import convert_to_fp8_modules

BF16 = torch.bfloat16


@pytest.fixture
def device(monkeypatch):
    """device(): from now on CPU tensors are those of a GPU of compute capability 9.0; counts the kernels called."""
    module, counts = binding(), Counter()

    def counted(name):
        def call(*arguments):
            counts[name] += 1
            return getattr(module, name)(*arguments)

        return call

    names = ("attention", "attention_fp8", "qk_norm_rope", "layer_norm_modulate", "layer_norm_modulate_fp8")
    names += ("gate_residual", "pad_causal", "causal_conv3d", "quantize_rows", "linear_fp8")
    sizes = ("attention_fp8_workspace", "group_norm_silu_workspace", "causal_conv3d_moment_chunks")
    spy = SimpleNamespace(**{name: counted(name) for name in names}, **{n: getattr(module, n) for n in sizes})

    def group_norm_silu(x, weight, bias, out, groups, eps, silu, pad, moments, _, threads):
        size = module.group_norm_silu_workspace(x, groups, moments is not None)
        counts["group_norm_silu" if moments is None else "group_norm_silu of moments"] += 1
        workspace = torch.empty(size, dtype=torch.uint8)
        module.group_norm_silu(x, weight, bias, out, groups, eps, silu, pad, moments, workspace, threads)

    spy.group_norm_silu = group_norm_silu  # CPU tensors get no workspace

    def picks_native(op, kind, dtype, index):
        return dtype in _backend.KERNELS[op].get("cuda", ())

    def begin():
        for owner in (_native, _cuda):
            monkeypatch.setattr(owner, "_C", spy)
        monkeypatch.setattr(_backend, "_picks_native", picks_native)
        monkeypatch.setattr(_direct, "is_plain", lambda *tensors: False)
        monkeypatch.setattr(norm, "too_small", lambda x: False)
        return counts

    return begin


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
def test_transformer(device, precision):
    """Texts of two lengths, so with lengths of keys; in FP8 the layers, too."""
    model = transformer().to(BF16)
    latents, time, condition = inputs(torch.float64)
    exact = transformer().double()(latents, time, **condition)
    latents, time, condition = inputs(BF16)
    if precision == "fp8":
        convert_to_fp8_modules(model).set_attention_precision("fp8")
    counts = device()
    out = model(latents, time, **condition)
    assert error(out, exact) < {"bf16": 0.03, "fp8": 0.08}[precision], counts
    names = {"bf16": ("attention", "qk_norm_rope"), "fp8": ("attention_fp8", "linear_fp8", "layer_norm_modulate_fp8")}
    assert all(counts[name] for name in (*names[precision], "layer_norm_modulate", "gate_residual")), counts


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
