"""Blocks that work on a part of the tokens at a time give what they give for all tokens at once."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hunyuan_ext.linear import cpu
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.fp8 import convert_to_fp8_modules
from hunyuan_video.models.int8 import convert_to_int8_modules
from hunyuan_video.models.lora import add_adapter, lora_layers
from hunyuan_video.models.transformer.chunks import Span, TokenChunks, spans
from hunyuan_video.models.transformer.executor import PLAIN, BlockExecutor, Layer

CONFIG = TransformerConfig(
    hidden_size=256, num_heads=2, double_blocks=1, single_blocks=2, mlp_ratio=4, in_channels=16, out_channels=16,
    patch_size=(1, 2, 2), rope_dims=(16, 56, 56), text_dim=64, pooled_text_dim=32, guidance_embed=True,
)  # fmt: skip
CONVERT = {"plain": lambda model: model, "fp8": convert_to_fp8_modules, "int8": convert_to_int8_modules}


def transformer(dtype, *, image=""):
    torch.manual_seed(0)
    model = HunyuanVideoTransformer(dataclasses.replace(CONFIG, image_condition=image)).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.to(dtype)


def run(model, executor, *, batch=2):
    model.executor = executor
    torch.manual_seed(1)
    mask = torch.arange(12)[None] < torch.tensor([12, 7])[:batch, None]
    return model(
        torch.randn(batch, 16, 3, 8, 8), torch.tensor([500.0, 20.0])[:batch], text=torch.randn(batch, 12, 64),
        text_mask=mask, pooled_text=torch.randn(batch, 32), guidance=torch.tensor([6000.0, 1000.0])[:batch],
    )  # fmt: skip


def in_parts(size):
    return PLAIN.adding(TokenChunks(size))


def error(out, exact):
    return float((out.double() - exact.double()).norm() / exact.double().norm())


class Watch(Layer):
    """Notes how many tokens attention is called with, and whether its queries have memory of their own."""

    place = "steps"

    def __init__(self):
        self.calls = []

    def attention(self, attention):
        def watched(q, k, v, **settings):
            self.calls.append(q.is_contiguous())
            return attention(q, k, v, **settings)

        return watched


@torch.no_grad()
@pytest.mark.parametrize("image", ["", "token_replace"])
@pytest.mark.parametrize("kind", CONVERT)
@pytest.mark.parametrize("size", [7, 32])
def test_same_bits_in_bfloat16(kind, image, size):
    """Two samples, parts that do not divide the 48 video tokens, texts of two lengths, a clean frame of 16 tokens."""
    model = CONVERT[kind](transformer(torch.bfloat16, image=image))
    parts, whole = run(model, in_parts(size)), run(model, PLAIN)
    if kind == "fp8" and cpu.find_row("float8_e4m3fn") is None:  # decoded to float32: as in the next test
        assert error(parts, whole) < 2**-8
    else:
        assert torch.equal(parts, whole)


@torch.no_grad()
def test_float32_to_rounding():
    """torch's float32 products of few rows add in another order."""
    model = transformer(torch.float32)
    whole, parts = run(model, PLAIN), run(model, in_parts(7))
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    assert not torch.equal(whole, torch.zeros_like(whole))


@torch.no_grad()
def test_hooks_and_adapters_see_whole_linears():
    """A linear with something around it is called as it is, on parts; columns for the MLP are computed once."""
    model = transformer(torch.bfloat16)
    whole = run(model, PLAIN)
    block = model.single_blocks[0]
    widths, products = [], []

    def double(module, args, out):
        widths.append(args[0].shape[1])
        products.append(out.shape)
        return 2 * out

    handle = block.linear1.register_forward_hook(double)
    expected = run(model, PLAIN)
    widths.clear(), products.clear()
    assert torch.equal(run(model, in_parts(16)), expected) and not torch.equal(expected, whole)
    assert sum(widths) == 2 * 60 and max(widths) <= 16  # both samples, each token once
    assert {shape[-1] for shape in products} == {block.linear1.out_features}
    handle.remove()


@torch.no_grad()
def test_adapters():
    model = transformer(torch.bfloat16)
    whole = run(model, PLAIN)
    paths = ["double_blocks.0.img_attn_qkv", "double_blocks.0.img_mlp.fc1", "single_blocks.1.linear1"]
    add_adapter(model, "style", dict.fromkeys([*paths, "single_blocks.0.linear2"], 4))
    for _, layer in lora_layers(model):
        for parameter in layer.adapter("style").parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    adapted = run(model, PLAIN)
    assert not torch.equal(adapted, whole)
    assert error(run(model, in_parts(16)), adapted) < 5e-3 < 4 * error(whole, adapted)


@torch.no_grad()
def test_other_attention_is_called_as_it_is():
    model, watch = transformer(torch.bfloat16), Watch()
    assert torch.equal(run(model, in_parts(16).adding(watch)), run(model, PLAIN))
    assert watch.calls == [True] * 3


def test_gradients_and_short_sequences_take_the_whole():
    model, watch = transformer(torch.bfloat16), Watch()
    layers = in_parts(16).adding(watch)
    model.requires_grad_(True)
    run(model, layers)
    assert watch.calls == [False] * 3  # views of one tensor
    watch.calls.clear()
    with torch.no_grad():
        run(model, in_parts(60).adding(watch))  # the single blocks' 60 tokens
    assert watch.calls == [False] * 3


def test_new_models_work_in_parts():
    assert transformer(torch.bfloat16).executor.has(TokenChunks.place)
    assert isinstance(HunyuanVideoTransformer(CONFIG).executor, BlockExecutor)


@pytest.mark.parametrize(
    ("batch", "tokens", "size", "border"), [(1, 50, 16, 0), (3, 50, 16, 20), (2, 10, 16, 0), (2, 10, 16, 4)]
)
def test_spans(batch, tokens, size, border):
    """Every token once, none more than `size` in a part, none across the border."""
    seen = torch.zeros(batch, tokens, dtype=torch.int64)
    for span in spans(seen, size, border):
        part = span.of(seen)
        part += 1
        assert 0 < part.shape[1] <= size
        assert not span.tokens.start < border < span.tokens.stop
    assert torch.equal(seen, torch.ones_like(seen))
    assert len(list(spans(torch.empty(2, 10), 16))) == 1 and next(spans(torch.empty(2, 10), 16)) == Span(
        slice(0, 2), slice(0, 10)
    )
