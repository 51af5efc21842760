"""Steps over slabs [t, h, W, C] on every instruction set: statistics, norm, padding, convolution."""

import pytest
import torch
import torch.nn.functional as F
from op_accuracy import DTYPES, LEVELS, assert_error_within, needs_native, poisoned_outputs  # noqa: F401

from hunyuan_ext import reference
from hunyuan_ext.conv.slabs import ChannelMoments, SlabConvolution, native_slabs, norm_slab, pad_slab
from hunyuan_ext.core import native

BACKENDS = [("reference", None), *(("native", level) for level in LEVELS)]


def volume(slab):  # [t, h, W, C] -> [1, C, t, h, W]
    return slab.permute(3, 0, 1, 2)[None]


def slab_of(volume):
    return volume[0].permute(1, 2, 3, 0)


def group_norm(channels, groups, dtype):
    norm = torch.nn.GroupNorm(groups, channels, eps=1e-6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm.to(dtype).requires_grad_(False)


@needs_native
@pytest.mark.parametrize(("mode", "level"), BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "groups"), [((5, 9, 31, 32), 8), ((3, 4, 5, 7), 7), ((2, 1, 3, 130), 10)])
@pytest.mark.parametrize("offset", [0.5, 300.0])
def test_norm_of_slabs_is_group_norm_of_the_whole(mode, level, dtype, shape, groups, offset):
    x = (torch.randn(shape) * 2 + offset).to(dtype)
    norm = group_norm(shape[3], groups, dtype)
    pad = (2, 1, 1)
    out = torch.empty((shape[0] + 2, shape[1] + 2, shape[2] + 2, shape[3]), dtype=dtype)
    moments = ChannelMoments()
    with native.forced(mode, level):
        for part in x.split([1, shape[0] - 1]):
            moments.add(part)
        norm_slab(x, moments.affine(norm), out, pad=pad)
    arguments = dict(groups=groups, eps=norm.eps, pad=pad)
    exact = reference.group_norm_silu(volume(x).double(), norm.weight.double(), norm.bias.double(), **arguments)
    plain = reference.group_norm_silu(volume(x), norm.weight, norm.bias, **arguments)
    assert_error_within(out, slab_of(exact), slab_of(plain))


@needs_native
@pytest.mark.parametrize("level", LEVELS)
def test_moments_do_not_depend_on_threads_and_little_on_the_slabs(level):
    x = torch.randn(6, 40, 40, 16) + 3
    before, totals = torch.get_num_threads(), []
    with native.forced("native", level):
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            moments = ChannelMoments()
            moments.add(x)
            totals.append(moments.totals)
        torch.set_num_threads(before)
        assert all(torch.equal(totals[0], other) for other in totals)
        moments = ChannelMoments()
        for part in x.split(1):
            moments.add(part)
    mean = x.double().mean((0, 1, 2))
    for whole in (moments.totals, totals[0]):
        assert (whole[0] + whole[1] / 9600 - mean).abs().max() < 1e-7
        variance = whole[2] / 9600 - (whole[1] / 9600).square()
        torch.testing.assert_close(variance, x.double().var((0, 1, 2), correction=0), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("mode", "level"), [BACKENDS[0], BACKENDS[-1]])
@pytest.mark.parametrize("pad", [(0, 0, 0), (2, 1, 1), (1, 0, 2)])
def test_padding(mode, level, pad):
    x = torch.randn(3, 4, 5, 6)
    want = slab_of(reference.pad_causal(volume(x), pad))
    with native.forced(mode, level):
        assert torch.equal(pad_slab(x, torch.empty(want.shape), pad), want)
        strided = x.permute(0, 2, 1, 3)
        want = slab_of(reference.pad_causal(volume(strided), pad))
        assert torch.equal(pad_slab(strided, torch.empty(want.shape), pad), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2)])
@torch.no_grad()
def test_convolution_of_slabs(dtype, stride):
    weight, bias = torch.randn(24, 16, 3, 3, 3).to(dtype), torch.randn(24).to(dtype)
    conv = SlabConvolution(weight, bias, stride, (5, 9, 11))
    for frames in (5, 3):  # a slab may be shorter than was announced
        x = torch.randn(frames, 9, 11, 16).to(dtype)
        exact = slab_of(F.conv3d(volume(x).double(), weight.double(), bias.double(), stride))
        plain = slab_of(F.conv3d(volume(x), weight, bias, stride))
        out = conv(x)
        assert out.is_contiguous()
        assert_error_within(out, exact, plain)
        whole = torch.randn(exact.shape[0] + 2, *exact.shape[1:]).to(dtype)  # part of a larger activation
        before = whole.clone()
        conv.add_to(whole[1:-1], x)
        assert_error_within(whole[1:-1], before[1:-1].double() + exact, before[1:-1] + plain)
        assert torch.equal(whole[0], before[0]) and torch.equal(whole[-1], before[-1])


@needs_native
def test_slabs_are_native_for_plain_tensors_in_inference():
    x, weight = torch.randn(2, 2, 2, 4), torch.randn(4, requires_grad=True)
    assert not native_slabs(x, weight)
    assert not native_slabs(x.double())
    with torch.no_grad():
        assert native_slabs(x, weight) == torch.backends.mkldnn.is_available()
        with torch.autocast("cpu", torch.bfloat16):
            assert not native_slabs(x)
