"""Linears with their surroundings: the same numbers by every path, hooks and adapters respected, int8 blocks."""

import pytest
import torch
from helpers.transformer_cases import tiny_config, tiny_inputs
from torch import nn

from hunyuan_ext.core import native
from hunyuan_ext.linear import cpu
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.fp8 import FP8Linear, convert_to_fp8_modules
from hunyuan_video.models.int8 import Int8Linear, convert_to_int8_modules
from hunyuan_video.models.transformer.linear import is_open, linear, linear_and_gelu, linear_pair


def model_and_inputs(dtype=torch.float32):
    torch.manual_seed(7)
    sizes = {"hidden_size": 64, "rope_dims": (8, 12, 12), "double_blocks": 2, "single_blocks": 2}
    model = HunyuanVideoTransformer(tiny_config(**sizes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.to(dtype).eval(), tiny_inputs()


def distance(out, expected):
    out, expected = out.detach().float(), expected.detach().float()
    return float((out - expected).norm() / expected.norm())


@pytest.mark.parametrize("convert", [None, convert_to_fp8_modules])
@pytest.mark.parametrize("mode", ["auto", "native"])
def test_fused_blocks_equal_composed_ones(mode, convert, monkeypatch):
    if mode == "native" and native.module is None:
        pytest.skip("native module absent")
    monkeypatch.setattr(cpu, "SMALL", 0)
    for dtype, most in ((torch.float32, 1e-5), (torch.bfloat16, 0.03)):
        model, inputs = model_and_inputs(dtype)
        model = model if convert is None else convert(model)
        with torch.no_grad(), native.forced("reference"):
            exact = model.float()(**inputs)
            expected = model.to(dtype)(**inputs)
        with torch.no_grad(), native.forced(mode):
            out = model(**inputs)
        assert distance(out, exact) <= max(1.5 * distance(expected, exact), most / 10) and distance(out, exact) < most
        assert out.dtype == expected.dtype


def test_with_gradients_the_plain_modules_run():
    model, inputs = model_and_inputs()
    with torch.no_grad():
        expected = model(**inputs)
    out = model(**inputs)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["hook", "wrapper", "replaced"])
def test_a_module_that_is_more_than_a_linear_is_called(kind):
    plain = nn.Linear(64, 96)

    class Doubled(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.out_features = inner, inner.out_features

        def forward(self, x):
            return 2 * self.inner(x)

    if kind == "hook":
        module = nn.Linear(64, 96)
        module.load_state_dict(plain.state_dict())
        module.register_forward_hook(lambda module, args, out: 2 * out)
    elif kind == "wrapper":
        module = Doubled(plain)
    else:
        module = nn.Linear(64, 96)
        module.forward = lambda x: 2 * plain(x)
    assert is_open(plain) and not is_open(module)
    x, gate, residual = torch.randn(2, 5, 64), torch.randn(2, 96), torch.randn(2, 5, 96)
    with torch.no_grad():
        doubled = 2 * plain(x)
        out = linear(module, (x[..., :30], x[..., 30:]), gate=gate, residual=residual)
        torch.testing.assert_close(out, residual + gate[:, None] * doubled)
        first, second = linear_and_gelu(module, x, 32, plain)
        torch.testing.assert_close(first, doubled[..., :32])
        torch.testing.assert_close(second, torch.nn.functional.gelu(doubled[..., 32:], approximate="tanh"))
        pair = linear_pair((plain, module), (x, x[:, :3]))
        torch.testing.assert_close(pair, torch.cat((plain(x), doubled[:, :3]), 1))


def test_changed_weights_count_at_once():
    """Nothing of the weights is kept between calls: merged adapters, loaded and trained weights need no notice."""
    model, inputs = model_and_inputs(torch.bfloat16)
    with torch.no_grad():
        before = model(**inputs)
        model.single_blocks[0].linear2.weight.data += 0.5
        changed = model(**inputs)
        model.single_blocks[0].linear2.weight.data -= 0.5
    assert distance(changed, before) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_blocks_stay_close(dtype):
    model, inputs = model_and_inputs(dtype)
    with torch.no_grad():
        expected = model(**inputs)
        convert_to_int8_modules(model)
        out = model(**inputs)
    assert out.dtype == dtype and distance(out, expected) < 0.1
    blocks = [model.double_blocks, model.single_blocks]
    assert all(not isinstance(module, nn.Linear) for block in blocks for module in block.modules())


def test_int8_linear_keeps_its_types_and_follows_the_model():
    layer = Int8Linear.from_linear(nn.Linear(40, 32))
    x = torch.randn(3, 40)
    expected = layer(x)
    layer.to(torch.bfloat16)
    assert layer.weight.dtype == torch.int8 and layer.scale.dtype == torch.float32
    assert layer.bias.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert distance(layer(x), expected) < 0.02
    other = Int8Linear(40, 32)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer.float()(x))
    assert isinstance(FP8Linear.from_linear(nn.Linear(40, 32)), nn.Module)
