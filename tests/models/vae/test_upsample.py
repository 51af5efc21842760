"""Upsampling folded into its convolution equals upsampling, then convolving."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from hunyuan_video.models import CausalVAE, VAEConfig
from hunyuan_video.models.vae.blocks import Upsample, upsample_nearest
from hunyuan_video.models.vae.upsample import fold, parities

STRIDES = [(2, 2, 2), (1, 2, 2), (2, 1, 1), (2, 2, 1)]


def layer(stride=(2, 2, 2), channels=5, dtype=torch.float64) -> Upsample:
    torch.manual_seed(3)
    return Upsample(channels, stride).to(dtype).eval()


def plain(up: Upsample, x: torch.Tensor) -> torch.Tensor:
    return up.conv(upsample_nearest(x, up.stride))


@pytest.fixture(autouse=True)
def no_small_volumes(monkeypatch):
    monkeypatch.setattr("hunyuan_video.models.vae.upsample.SMALL_VOLUME", 0)


@pytest.fixture
def folds(monkeypatch):
    """One entry per call of `fold`."""
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return fold(*arguments)

    monkeypatch.setattr("hunyuan_video.models.vae.upsample.fold", counted)
    return calls


@torch.no_grad()
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 4, 3), (2, 1, 5), (2, 3, 3), (5, 7, 2), (4, 2, 9)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_equals_upsampling_then_convolving(folds, stride, size, layout):
    up = layer(stride)
    x = torch.randn(2, 5, *size, dtype=torch.float64).to(memory_format=layout)
    got, want = up(x), plain(up, x)
    assert len(folds) == 1
    assert got.shape == want.shape
    assert got.stride() == want.stride() or size == (1, 1, 1)  # which is in both memory formats
    assert (got - want).abs().max() <= 1e-12 * want.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounds_like_the_plain_path(dtype):
    up = layer(channels=16).to(dtype)
    x = torch.randn(1, 16, 3, 5, 6).to(dtype)
    wide = plain(copy.deepcopy(up).double(), x.double())
    error, plain_error = ((out.double() - wide).norm() for out in (up(x), plain(up, x)))
    assert up(x).dtype == dtype
    assert 0 < error <= 2 * plain_error


@pytest.mark.parametrize("stride", STRIDES)
def test_taps(stride):
    weights = fold(torch.randn(2, 2, 3, 3, 3), stride)
    assert len(weights) == len(list(parities(stride))) == stride[0] * stride[1] * stride[2]
    assert all(weight.shape[2:] == tuple(4 - size if size == 2 else 3 for size in stride) for weight in weights)


@torch.no_grad()
def test_folded_weights_follow_the_weight(folds):
    up, x = layer(), torch.randn(1, 5, 2, 3, 3, dtype=torch.float64)
    for _ in range(2):
        up(x)
    assert len(folds) == 1
    changes = (
        lambda: up.conv.conv.weight.mul_(2),
        lambda: up.load_state_dict(layer((2, 2, 2)).state_dict()),
        lambda: setattr(up.conv.conv, "weight", torch.nn.Parameter(torch.randn(5, 5, 3, 3, 3, dtype=torch.float64))),
        lambda: (up.conv.conv.weight.data.zero_(), up.eval()),
        lambda: (up.float(), up.double()),
        lambda: up.conv.conv.weight.data.copy_(torch.randn(5, 5, 3, 3, 3)),
        lambda: np.multiply(up.conv.conv.weight.detach().numpy(), -1, out=up.conv.conv.weight.detach().numpy()),
        lambda: setattr(up.conv.conv.weight, "data", torch.randn(5, 5, 3, 3, 3, dtype=torch.float64)),
        lambda: up.load_state_dict(layer((1, 2, 2)).state_dict(), assign=True),
        lambda: torch._foreach_lerp_([up.conv.conv.weight.data], [torch.ones(5, 5, 3, 3, 3).double()], 0.5),
    )
    for change in changes:
        change()
        torch.testing.assert_close(up(x), plain(up, x), rtol=1e-12, atol=1e-12)
    assert len(folds) == 1 + len(changes)


@torch.no_grad()
def test_copies_have_their_own():
    up, x = layer(), torch.randn(1, 5, 2, 3, 3, dtype=torch.float64)
    up(x)
    other = copy.deepcopy(up)
    assert other._folded._made is None
    other.conv.conv.weight.zero_()
    assert not torch.equal(other(x), up(x))


def test_small_volumes_take_the_plain_path(folds, monkeypatch):
    monkeypatch.setattr("hunyuan_video.models.vae.upsample.SMALL_VOLUME", 5 * 4 * 4)
    with torch.no_grad():
        layer()(torch.randn(9, 5, 5, 4, 3, dtype=torch.float64))  # the batch does not count: bits do not depend on it
        assert not folds
        layer()(torch.randn(1, 5, 5, 4, 4, dtype=torch.float64))
        assert folds


def test_training_takes_the_plain_path(folds):
    up = layer()
    x = torch.randn(1, 5, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    up(x).sum().backward()
    assert x.grad is not None and up.conv.conv.weight.grad is not None and not folds


def test_inference_mode_gives_the_same(folds):
    up, x = layer(), torch.randn(1, 5, 2, 3, 3, dtype=torch.float64)
    with torch.inference_mode():
        made_here = copy.deepcopy(up)
        torch.testing.assert_close(up(x), plain(up, x), rtol=1e-12, atol=1e-12)
        assert len(folds) == 1
        torch.testing.assert_close(made_here(x), up(x), rtol=1e-12, atol=1e-12)
        assert len(folds) == 2  # of its own


@torch.no_grad()
def test_decoder_agrees_with_the_plain_path(monkeypatch):
    torch.manual_seed(5)
    config = VAEConfig(latent_channels=4, block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_groups=4)
    vae, latents = CausalVAE(config).double().eval(), torch.randn(1, 4, 3, 3, 2, dtype=torch.float64)
    folded = vae.decode(latents)
    monkeypatch.setattr("hunyuan_video.models.vae.blocks.can_fold", lambda *_: False)
    want = vae.decode(latents)
    assert not torch.equal(folded, want)
    torch.testing.assert_close(folded, want, rtol=0, atol=1e-12 * float(want.abs().max()) * 10)
