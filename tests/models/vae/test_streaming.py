"""Plain mode slab by slab, as it runs in inference on a CPU: the same numbers as the modules one after the other."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hunyuan_ext.conv.slabs import packs
from hunyuan_ext.core import native
from hunyuan_video.models import CausalVAE, VAEConfig
from hunyuan_video.models.vae import model as vae_module
from hunyuan_video.models.vae.exact import decode_streamed, streams

CONFIG = VAEConfig(latent_channels=4, block_out_channels=(16, 16, 32, 32), layers_per_block=1, norm_groups=4)
ONE_LEVEL_LESS = CONFIG.replace(block_out_channels=(16, 32, 32), temporal_compression=2, spatial_compression=4)
pytestmark = pytest.mark.skipif(
    native.module is None or not packs(torch.empty(0)), reason="needs the native module and oneDNN"
)


@pytest.fixture(autouse=True)
def small_volumes_stream(monkeypatch):
    monkeypatch.setattr(vae_module, "STREAM_LATENTS", 1)


def build(config=CONFIG, dtype=torch.float32):
    torch.manual_seed(0)
    return CausalVAE(config).eval().to(dtype)


def by_modules(monkeypatch, function, *arguments):
    with monkeypatch.context() as patch:
        patch.setattr(vae_module, "streams", lambda *_: False)
        return function(*arguments)


def error(value, truth):
    return float((value.double() - truth).norm())


@torch.no_grad()
@pytest.mark.parametrize("config", [CONFIG, ONE_LEVEL_LESS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(3, 3, 5), (1, 4, 2), (4, 1, 1)])
@pytest.mark.parametrize("slab_bytes", [1, 60_000])
def test_as_close_to_float64_as_the_modules(monkeypatch, config, dtype, size, slab_bytes):
    if not packs(torch.empty(0, dtype=dtype)):
        pytest.skip("needs a processor whose matrix units take bfloat16")
    monkeypatch.setattr("hunyuan_video.models.vae.streaming.SLAB_BYTES", slab_bytes)
    vae, wide = build(config, dtype), build(config).double()
    wide.load_state_dict(vae.state_dict())
    latents = torch.randn(2, 4, *size).to(dtype)
    truth = wide.decode(latents.double())
    got, want = vae.decode(latents), by_modules(monkeypatch, vae.decode, latents)
    assert got.shape == want.shape and got.is_contiguous() and got.dtype == dtype
    assert not torch.equal(got, want)
    assert error(got, truth) < 3 * error(want, truth)
    video = truth.to(dtype)
    truth = wide.encode(video.double())
    got, want = vae.encode(video), by_modules(monkeypatch, vae.encode, video)
    assert error(got.mean, truth.mean) < 3 * error(want.mean, truth.mean)
    assert error(got.logvar, truth.logvar) < 3 * error(want.logvar, truth.logvar)


@settings(max_examples=5)
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(2, 4)),  # one position: groups of a few numbers
    room=st.floats(1, 40),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
@torch.no_grad()
def test_exact_equals_plain_for_any_size_and_budget(size, room, dtype):
    vae = build(dtype=dtype)
    tolerance = 2e-4 if dtype == torch.float32 else 0.06  # folded upsampling there, none here
    latents = torch.randn(1, 4, *size).to(dtype)
    video = vae.decode(latents)
    for function, x, want in ((vae.decode, latents, video), (lambda *a, **k: vae.encode(*a, **k).mean, video, None)):
        want = function(x) if want is None else want
        with pytest.raises(ValueError, match="needs at least") as refusal:
            function(x, mode="exact", memory_budget=1)
        budget = int(room * int(str(refusal.value).split()[-1]))
        got = function(x, mode="exact", memory_budget=budget)
        assert (got - want).norm() <= tolerance * want.norm()


@torch.no_grad()
def test_threads_and_inputs(monkeypatch):
    vae, latents = build(), torch.randn(1, 4, 3, 5, 6)
    given, before, results = latents.clone(), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((vae.decode(latents), vae.encode(results[0][0]).mean if results else None))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(latents, given)
    assert all(torch.equal(results[0][0], decoded) for decoded, _ in results)
    assert torch.equal(results[1][1], results[2][1])


@torch.no_grad()
def test_every_sample_is_what_it_is_alone():
    decoder, latents = build().decoder, torch.randn(3, 4, 2, 3, 3)  # torch convolves a batch as its threads like it
    assert torch.equal(decode_streamed(decoder, latents)[1:2], decode_streamed(decoder, latents[1:2]))


def test_only_the_unaltered_network_in_inference(monkeypatch):
    vae, x = build(), torch.randn(1, 4, 2, 2, 2)
    assert not streams(vae.decoder, x, 1)  # gradients
    with torch.no_grad():
        assert streams(vae.decoder, x, 1)
        assert not streams(vae.decoder, x, 9)
        assert not streams(vae.decoder, x.bfloat16(), 1)
        assert not streams(vae.decoder.double(), x.double(), 1)
        hooked = copy.deepcopy(vae).float()
        hooked.decoder.conv_in.register_forward_hook(lambda *_: None)
        assert not streams(hooked.decoder, x, 1)
        altered = copy.deepcopy(vae).float()
        altered.decoder.mid_block.resnets[0].conv1.conv = torch.nn.utils.parametrizations.weight_norm(
            altered.decoder.mid_block.resnets[0].conv1.conv
        )
        assert not streams(altered.decoder, x, 1)
        with native.forced("reference"):
            assert not streams(vae.float().decoder, x, 1)


@torch.no_grad()
def test_upsampling_weights_are_made_again_when_the_weight_changes():
    vae, latents = build(), torch.randn(1, 4, 2, 3, 3)
    first = vae.decode(latents)
    vae.decoder.up_blocks[0].upsamplers[0].conv.conv.weight.mul_(0.5)
    second = vae.decode(latents)
    assert not torch.equal(first, second)
    torch.testing.assert_close(second, vae.decode(latents, mode="exact"))
