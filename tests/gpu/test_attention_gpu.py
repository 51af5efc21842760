"""The attention kernels on a device: the correctness rule, poisoned memory, lengths, lists, FP8."""

from __future__ import annotations

import pytest
import torch
from fp8_attention import per_head_fp8, relative_error
from op_accuracy import assert_error_within

import hunyuan_ext as ops
from hunyuan_ext import BlockMask, reference
from hunyuan_ext.attention import cuda as attention_kernels
from hunyuan_ext.core import dispatch

BF16, NAN = torch.bfloat16, float("nan")


def inputs(batch, queries, keys, heads, dim):
    """q, and k, v as views of one buffer, as a fused projection leaves them."""
    q = torch.randn(batch, queries, heads, dim, device="cuda", dtype=BF16)
    k, v = torch.randn(batch, keys, 2, heads, dim, device="cuda", dtype=BF16).unbind(2)
    return q, k, v


def plain(q, k, v, *, kv_len=None, block_mask=None, scale=None):
    """Attention as torch operations do it in bfloat16: scores and probabilities are rounded."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if block_mask is not None:
        scores = scores.masked_fill(~block_mask.dense(q.shape[1], k.shape[1]).to(q.device), -torch.inf)
    if kv_len is not None:
        behind = torch.arange(k.shape[1], device=k.device) >= kv_len[:, None]
        scores = scores.masked_fill(behind[:, None, None], -torch.inf)
    return torch.einsum("bhqk,bkhd->bqhd", scores.float().softmax(-1).nan_to_num().to(BF16), v)


def check(q, k, v, **options):
    out, lse = ops.attention_with_lse(q, k, v, **options)
    exact, exact_lse = reference.attention_with_lse(q.double(), k.double(), v.double(), **options)
    assert_error_within(out, exact, plain(q, k, v, **options))
    torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-3, atol=1e-3)
    return out


def test_kernels_run_here():
    """Otherwise all the tests below compare torch with torch."""
    choice = dispatch.choice("attention", "cuda", BF16)
    assert choice.native, choice.reason


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (131, 389), (1021, 4099), (128, 176)])
def test_dense(dim, queries, keys):
    check(*inputs(1, queries, keys, 3, dim))


def test_more_tiles_than_blocks():
    """A persistent block computes several tiles: barriers and turns go on from one to the next."""
    check(*inputs(2, 1500, 1100, 24, 128))


@pytest.mark.parametrize("dim", [64, 128])
def test_lengths_and_garbage_behind_them(dim):
    q, k, v = inputs(4, 300, 700, 2, dim)
    kv_len = torch.tensor([700, 177, 1, 0], dtype=torch.int32, device="cuda")
    clean_k, clean_v = k.clone(), v.clone()
    for sample, length in enumerate(kv_len.tolist()):
        k[sample, length:], v[sample, length:] = NAN, NAN
    out, lse = ops.attention_with_lse(q, k, v, kv_len=kv_len)
    exact, _ = reference.attention_with_lse(q.double(), clean_k.double(), clean_v.double(), kv_len=kv_len)
    assert_error_within(out, exact, plain(q, clean_k, clean_v, kv_len=kv_len))
    assert (out[3] == 0).all() and (lse[3] == -torch.inf).all()


@pytest.mark.parametrize("dim", [64, 128])
def test_block_lists(dim):
    q, k, v = inputs(1, 1500, 1700, 3, dim)
    allowed = torch.rand(12, 7) < 0.5
    allowed[0] = False
    mask = BlockMask.from_tiles(allowed, 128, 256).to("cuda")
    check(q, k, v, block_mask=mask)


def test_full_list_equals_dense():
    q, k, v = inputs(1, 900, 1000, 4, 128)
    full = BlockMask.from_tiles(torch.ones(8, 8, dtype=torch.bool), 128, 128).to("cuda")
    assert torch.equal(check(q, k, v, block_mask=full), check(q, k, v))


def test_keys_that_are_not_listed_are_not_read():
    q, k, v = inputs(1, 700, 1500, 2, 128)
    allowed = torch.rand(6, 12) < 0.5
    mask = BlockMask.from_tiles(allowed[:1].repeat(6, 1), 128, 128).to("cuda")
    wanted = check(q, k, v, block_mask=mask)
    hidden = ~allowed[0].repeat_interleave(128)[:1500].to("cuda")
    k[:, hidden], v[:, hidden] = NAN, NAN
    assert torch.equal(ops.attention_with_lse(q, k, v, block_mask=mask)[0], wanted)


def test_the_same_bits_again():
    q, k, v = inputs(2, 2000, 3000, 8, 128)
    first = ops.attention_with_lse(q, k, v)
    for _ in range(5):
        again = ops.attention_with_lse(q, k, v)
        assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


def test_parts_of_the_keys_merge():
    """Merging by log-sum-exp, as in sequence parallelism."""
    q, k, v = inputs(1, 500, 1200, 4, 128)
    parts = [ops.attention_with_lse(q, k[:, part], v[:, part]) for part in (slice(0, 700), slice(700, 1200))]
    weights = torch.stack([lse for _, lse in parts]).softmax(0).transpose(2, 3)[..., None]
    merged = sum(weight * out.float() for weight, (out, _) in zip(weights, parts, strict=True))
    exact, _ = reference.attention_with_lse(q.double(), k.double(), v.double())
    assert relative_error(merged, exact) < 5e-3


needs_fp8 = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0), reason="FP8 attention is for sm_90a"
)


@pytest.fixture
def fp8_always(monkeypatch):
    """FP8 also of sequences for which bfloat16 is faster."""
    monkeypatch.setattr(attention_kernels, "FP8_TOKENS", 0)


@needs_fp8
@pytest.mark.usefixtures("fp8_always")
@pytest.mark.parametrize("tokens", [1, 129, 4099])
def test_fp8_error(tokens):
    q, k, v = inputs(1, tokens, tokens, 3, 128)
    k += 3 * torch.randn(3, 128, device="cuda", dtype=BF16)
    exact, _ = reference.attention_with_lse(q.double(), k.double(), v.double())
    ours = relative_error(ops.rope_attention(q, k, v, precision="fp8"), exact)
    assert ours < 0.06 and ours <= 3 * relative_error(per_head_fp8(q, k, v), exact)


@needs_fp8
@pytest.mark.usefixtures("fp8_always")
@pytest.mark.parametrize(("tokens", "text_len"), [(131, 20), (4099, 256)])
def test_fp8_norm_and_rotation(tokens, text_len):
    """In the pass that quantizes; both norms of a double block."""
    q, k, v = inputs(2, tokens, tokens, 9, 128)
    norms = torch.rand(4, 128, device="cuda", dtype=BF16) + 0.5
    angle = torch.rand(tokens - text_len, 64, device="cuda").repeat_interleave(2, 1) * 6
    rope = angle.cos(), angle.sin()
    ready = [
        reference.qk_norm_rope(x.double(), rope, norms[i], norms[2 + i], text_len, 1e-6) for i, x in enumerate((q, k))
    ]
    exact, _ = reference.attention_with_lse(*ready, v.double())
    options = dict(rope=rope, q_norm=norms[0], k_norm=norms[1], text_norms=(norms[2], norms[3]), text_len=text_len)
    ours = relative_error(ops.rope_attention(q, k, v, precision="fp8", **options), exact)
    assert ours < 0.06 and ours <= 3 * relative_error(per_head_fp8(*(x.to(BF16) for x in ready), v), exact)


@needs_fp8
@pytest.mark.usefixtures("fp8_always")
def test_fp8_ignores_what_lies_behind_the_keys():
    q, k, v = inputs(2, 300, 300, 2, 128)
    kv_len = torch.tensor([300, 131], device="cuda")
    dirty_k, dirty_v = k.clone(), v.clone()
    dirty_k[1, 131:], dirty_v[1, 131:] = NAN, 1e30
    clean = ops.rope_attention(q, k, v, kv_len=kv_len, precision="fp8")
    assert torch.equal(clean, ops.rope_attention(q, dirty_k, dirty_v, kv_len=kv_len, precision="fp8"))


@needs_fp8
def test_fp8_block_lists():
    """Lists of blocks of two tiles, with a row of none, and lengths that cut a block."""
    q, k, v = inputs(2, 1500, 1500, 3, 128)
    allowed = torch.rand(12, 6) < 0.5
    allowed[0], allowed[1] = False, True
    mask, kv_len = BlockMask.from_tiles(allowed, 128, 256).to("cuda"), torch.tensor([1500, 1100], device="cuda")
    exact, _ = reference.attention_with_lse(q.double(), k.double(), v.double(), kv_len=kv_len, block_mask=mask)
    out = ops.rope_attention(q, k, v, kv_len=kv_len, block_mask=mask, precision="fp8")
    assert relative_error(out, exact) < 0.06 and (out[:, :128] == 0).all()


@needs_fp8
@pytest.mark.usefixtures("fp8_always")
def test_fp8_more_tiles_than_blocks():
    q, k, v = inputs(2, 1100, 1100, 24, 128)
    exact, _ = reference.attention_with_lse(q.double(), k.double(), v.double())
    assert relative_error(ops.rope_attention(q, k, v, precision="fp8"), exact) < 0.06
