"""Exact mode: equal to plain for any size and budget, its memory within the budget; the parts it is made of."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hunyuan_ext.reference import pad_causal
from hunyuan_video.models import CausalVAE, VAEConfig
from hunyuan_video.models.vae import streaming
from hunyuan_video.models.vae.blocks import CausalConv3d, upsample_nearest
from hunyuan_video.models.vae.slabs import ConvPlan
from hunyuan_video.models.vae.store import FileStore, TensorStore

CONFIG = VAEConfig(latent_channels=4, block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_groups=4)
LATENT_SIZES = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))


def build(config=CONFIG):
    torch.manual_seed(0)
    return CausalVAE(config).double().eval()


def least_budget(run, upper=1 << 30):
    """The number that the error message names, which therefore must be enough."""
    with pytest.raises(ValueError, match="mode='exact' needs at least") as refusal:
        run(1)
    return int(str(refusal.value).split()[-1])


def rounding(run, x):
    """Distance by which the last bits of x move a result.

    Norms over two nearly equal values, as in clips of one latent, multiply them by up to 1e7.
    """
    result, generator = run(x), torch.Generator().manual_seed(0)
    noise = (torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in range(4))
    return max((run(x * (1 + 1e-15 * n)) - result).abs().max().item() for n in noise)


@settings(deadline=None, max_examples=8, derandomize=True)
@given(size=LATENT_SIZES, room=st.floats(1, 12), batch=st.integers(1, 2), attention=st.booleans())
def test_exact_equals_plain_for_any_size_and_budget(size, room, batch, attention):
    vae = build(CONFIG.replace(mid_attention=attention))
    latents = torch.randn(batch, 4, *size, dtype=torch.float64)
    video = vae.decode(latents).detach()
    budget = int(room * least_budget(lambda n: vae.decode(latents, mode="exact", memory_budget=n)))
    got = vae.decode(latents, mode="exact", memory_budget=budget)
    torch.testing.assert_close(got, video, rtol=0, atol=1e-11 + 200 * rounding(vae.decode, latents))
    want = vae.encode(video)
    budget = int(room * least_budget(lambda n: vae.encode(video, mode="exact", memory_budget=n)))
    got = vae.encode(video, mode="exact", memory_budget=budget)
    tolerance = 1e-11 + 200 * rounding(lambda x: torch.cat([vae.encode(x).mean, vae.encode(x).logvar]), video)
    torch.testing.assert_close(got.mean, want.mean, rtol=0, atol=tolerance)
    torch.testing.assert_close(got.logvar, want.logvar, rtol=0, atol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("room", [1.0, 4.0, None])
def test_exact_float32_is_as_close_to_float64_as_plain(room):
    vae = build()
    latents = torch.randn(1, 4, 4, 4, 5, dtype=torch.float64)
    truth = vae.decode(latents)
    vae, latents = vae.float(), latents.float()
    budget = room and int(room * least_budget(lambda n: vae.decode(latents, mode="exact", memory_budget=n)))
    error = (vae.decode(latents, mode="exact", memory_budget=budget) - truth).abs().max()
    assert error < 2 * (vae.decode(latents) - truth).abs().max()


@torch.no_grad()
@pytest.mark.parametrize("autocast", [True, False])
def test_exact_bfloat16(autocast):
    vae = build().float() if autocast else build().bfloat16()
    latents = torch.randn(1, 4, 3, 4, 5, dtype=torch.float32 if autocast else torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        plain, exact = vae.decode(latents), vae.decode(latents, mode="exact")
        truth = build().decode(latents.double())
    assert exact.dtype == torch.bfloat16
    assert (exact - truth).norm() < 1.2 * (plain - truth).norm()


@torch.no_grad()
def test_golden_vae_untiled_exact(golden):
    case = golden("vae_untiled")
    vae = CausalVAE(VAEConfig.from_dict(case.facts["config"]))
    vae.load_state_dict(case.part("weights"))
    tolerance = case.facts["expect_tol"]
    posterior = vae.encode(case.tensors["in.image.video"], mode="exact")
    torch.testing.assert_close(posterior.mean, case.tensors["out.image.mean"], **tolerance)
    video = vae.decode(case.tensors["in.lat3.latent"], mode="exact", memory_budget=2_000_000)
    torch.testing.assert_close(video, case.tensors["out.lat3.decoded"], **tolerance)


class LiveBytes(TorchDispatchMode):
    """Peak bytes of the tensors that operations made while the mode is on."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor):
                self._add(x.untyped_storage(), before)
        return out

    def _add(self, storage, before):
        pointer, size = storage.data_ptr(), storage.nbytes()
        if pointer and pointer not in self._seen and pointer not in before:
            self._seen.add(pointer)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, pointer, size)

    def _drop(self, pointer, size):
        self._seen.discard(pointer)
        self.now -= size


@torch.no_grad()
@pytest.mark.parametrize("room", [1.0, 3.0])
def test_exact_memory_stays_within_the_budget(room, monkeypatch):
    files = []
    monkeypatch.setattr(streaming, "FileStore", lambda *a: files.append(a) or FileStore(*a))
    vae = build().float()
    latents = torch.randn(1, 4, 4, 3, 3)
    budget = int(room * least_budget(lambda n: vae.decode(latents, mode="exact", memory_budget=n)))
    with LiveBytes() as plain:
        size = vae.decode(latents).nbytes
    with LiveBytes() as exact:
        vae.decode(latents, mode="exact", memory_budget=budget)
    assert files, "nothing was spilled: the budget did not bind"
    assert exact.peak <= budget + size + 50_000 < plain.peak  # 50 kB: the post_quant_conv output, indices, statistics


def test_refuses_gradients_and_bad_budgets():
    vae = build()
    latents = torch.zeros(1, 4, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="computes no gradients"):
        vae.decode(latents, mode="exact")
    with pytest.raises(ValueError, match="positive number of bytes, got 0"):
        vae.decode(latents.detach(), mode="exact", memory_budget=0)
    assert not vae.decode(latents.detach(), mode="exact").requires_grad


def test_full_disk_is_one_clear_line(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(OSError, match="set TMPDIR to a larger disk or raise memory_budget"):
        FileStore((4, 4, 4, 4), torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_file_store_reads_what_was_written(dtype):
    shape, cpu = (5, 6, 3, 2), torch.device("cpu")
    tensor = torch.randn(shape).to(dtype)
    memory, file = TensorStore(torch.zeros(shape, dtype=dtype), cpu), FileStore(shape, dtype, cpu)
    for t0, t1, h0, h1 in ((3, 5, 0, 6), (0, 3, 4, 6), (0, 3, 0, 4)):
        for store in (memory, file):
            store.write(t0, h0, tensor[t0:t1, h0:h1])
    for t0, t1, h0, h1 in ((0, 5, 0, 6), (2, 4, 1, 5), (4, 5, 5, 6)):
        assert torch.equal(file.read(t0, t1, h0, h1), tensor[t0:t1, h0:h1])
        assert torch.equal(memory.read(t0, t1, h0, h1), tensor[t0:t1, h0:h1])


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    upsample=st.sampled_from([(1, 1, 1), (1, 2, 2), (2, 2, 2)]),
    stride=st.sampled_from([(1, 1, 1), (1, 2, 2), (2, 2, 2)]),
    limit=st.integers(500, 20_000),
)
def test_slabs_of_a_convolution_tile_its_output(size, upsample, stride, limit):
    conv = CausalConv3d(2, 3, stride=stride).double()
    x = torch.randn(1, 2, *size, dtype=torch.float64)
    want = F.conv3d(pad_causal(upsample_nearest(x, upsample), (2, 1, 1)), conv.conv.weight, conv.conv.bias, stride)
    source = x[0].permute(1, 2, 3, 0)
    plan = ConvPlan.of(conv, tuple(source.shape), upsample, torch.float64)
    assert plan.out_shape == (*want.shape[2:], 3)
    got = torch.full_like(want, torch.nan)
    for slab in plan.slabs(limit):
        (t0, t1), (h0, h1) = plan.axes[0].source(*slab[:2]), plan.axes[1].source(*slab[2:])
        padded = plan.padded_input(source[t0:t1, h0:h1], slab, torch.float64)
        got[:, :, slab[0] : slab[1], slab[2] : slab[3]] = conv(padded.permute(3, 0, 1, 2)[None], padded=True)
    torch.testing.assert_close(got, want)
