"""The CUDA attention kernels, run by the emulator: every tile, fragment, barrier and copy of the real code."""

from __future__ import annotations

import pytest
import torch
from emulated import kernels
from fp8_attention import per_head_fp8
from op_accuracy import assert_error_within

from hunyuan_ext import BlockMask, reference

BF16 = torch.bfloat16
NAN = float("nan")
ARCHS = ["sm80", "sm86", "sm90"]


def inputs(batch, queries, keys, heads, dim, seed=0):
    """q, and k, v as views of one buffer, as a fused projection leaves them."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, queries, heads, dim, generator=generator).to(BF16)
    kv = torch.randn(batch, keys, 2, heads, dim, generator=generator).to(BF16)
    return q, *kv.unbind(2)


def attend(arch, q, k, v, *, kv_len=None, mask=None, scale=None, seed=0):
    """(out [B, Q, H, D], lse [B, H, Q]) of a kernel, into poisoned memory."""
    batch, queries, heads, dim = q.shape
    out, lse = torch.full(q.shape, NAN).to(BF16), torch.full((batch, heads, queries), NAN)
    blocks = {}
    if mask is not None:
        blocks = dict(row_starts=mask.row_starts, key_blocks=mask.key_blocks, query_tile=mask.query_tile,
                      key_tile=mask.key_tile)  # fmt: skip
    kernels().call(
        "attention", seed, arch, q=q, k=k, v=v, out=out, lse=lse,
        kv_len=None if kv_len is None else kv_len.to(torch.int32), batch=batch, queries=queries, keys=k.shape[1],
        heads=heads, head_dim=dim, q_stride=q.stride()[:3], k_stride=k.stride()[:3], v_stride=v.stride()[:3],
        out_stride=out.stride()[:3], scale=dim**-0.5 if scale is None else scale, dtype=BF16, **blocks,
    )  # fmt: skip
    return out, lse


def check(arch, q, k, v, *, seed=0, **options):
    """The correctness rule: at most twice the error of plain torch in bfloat16."""
    out, lse = attend(arch, q, k, v, seed=seed, **options)
    mask = options.pop("mask", None)
    exact, exact_lse = reference.attention_with_lse(q.double(), k.double(), v.double(), block_mask=mask, **options)
    assert_error_within(out, exact, plain(q, k, v, mask=mask, **options))
    torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-3, atol=1e-3)
    return out


def plain(q, k, v, *, kv_len=None, mask=None, scale=None):
    """Attention as torch operations do it in bfloat16: scores and probabilities are rounded."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask.dense(q.shape[1], k.shape[1]), -torch.inf)
    if kv_len is not None:
        scores = scores.masked_fill((torch.arange(k.shape[1]) >= kv_len[:, None])[:, None, None], -torch.inf)
    return torch.einsum("bhqk,bkhd->bqhd", scores.float().softmax(-1).nan_to_num().to(BF16), v)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (131, 389)])
def test_dense(arch, dim, queries, keys):
    check(arch, *inputs(1, queries, keys, 2, dim))


@pytest.mark.parametrize("arch", ARCHS)
def test_lengths_a_sample_and_garbage_behind_them(arch):
    q, k, v = inputs(3, 67, 421, 1, 64)
    lengths = torch.tensor([421, 200, 1])
    for sample, length in enumerate(lengths):
        k[sample, length:], v[sample, length:] = NAN, NAN
    clean_k, clean_v = k.nan_to_num(), v.nan_to_num()
    out, lse = attend(arch, q, k, v, kv_len=lengths)
    exact, exact_lse = reference.attention_with_lse(q.double(), clean_k.double(), clean_v.double(), kv_len=lengths)
    assert_error_within(out, exact, plain(q, clean_k, clean_v, kv_len=lengths))
    torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("arch", ARCHS)
def test_no_keys_give_zeros(arch):
    q, k, v = inputs(2, 130, 70, 1, 64)
    out, lse = attend(arch, q, k, v, kv_len=torch.tensor([0, 70]))
    assert (out[0] == 0).all() and (lse[0] == -torch.inf).all() and out[1].isfinite().all()


@pytest.mark.parametrize("arch", ARCHS)
def test_keys_that_are_not_listed_are_not_read(arch):
    """Tiles of listed keys cross blocks, and end between them: what lies there may be anything."""
    q, k, v = inputs(1, 128, 900, 1, 64)
    allowed = torch.tensor([[1, 0, 1, 0, 1, 1, 0, 0]], dtype=torch.bool)
    mask = BlockMask.from_tiles(allowed, 128, 128)
    wanted = check(arch, q, k, v, mask=mask)
    hidden = ~allowed[0].repeat_interleave(128)[:900]
    k[:, hidden], v[:, hidden] = NAN, NAN
    assert torch.equal(attend(arch, q, k, v, mask=mask, seed=2)[0], wanted)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("dim", [64, 128])
def test_block_mask(arch, dim):
    q, k, v = inputs(1, 300, 700, 2, dim)
    allowed = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)  # query tiles of 128, key blocks of 256
    mask = BlockMask.from_tiles(allowed, 128, 256)
    check(arch, q, k, v, mask=mask, kv_len=torch.tensor([650]))


@pytest.mark.parametrize("arch", [*ARCHS, "fp8"])
@pytest.mark.parametrize("key_tile", [128, 384])
def test_full_block_mask_equals_dense(arch, key_tile):
    """Bit for bit, also row by row where only some rows are full, and with a cut last block."""
    q, k, v = inputs(2, 200, 700, 1, 128)
    allowed = torch.ones(2, -(-700 // key_tile), dtype=torch.bool)
    allowed[1, 0] = False
    mask, lengths = BlockMask.from_tiles(allowed, 128, key_tile), torch.tensor([700, 391])
    listed = [x[:, :128] if x.ndim == 4 else x[..., :128] for x in attend(arch, q, k, v, mask=mask, kv_len=lengths)]
    dense = attend(arch, q[:, :128], k, v, kv_len=lengths)
    assert torch.equal(listed[0], dense[0]) and torch.equal(listed[1], dense[1])


@pytest.mark.parametrize("arch", [*ARCHS, "fp8"])
def test_result_does_not_depend_on_timing(arch):
    """Copies and products early or late, threads in other orders: a missing wait would show."""
    q, k, v = inputs(2, 260, 560, 1, 128)
    lengths = torch.tensor([560, 399])
    first = attend(arch, q, k, v, kv_len=lengths)
    for seed in (1, 2, 3, 4):
        again = attend(arch, q, k, v, kv_len=lengths, seed=seed)
        assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1]), f"seed {seed}"


@pytest.mark.parametrize("arch", ARCHS)
def test_large_scores(arch):
    q, k, v = inputs(1, 40, 200, 1, 64)
    check(arch, q * 8, k * 8, v, scale=0.7)


def relative_error(out, exact):
    return float((out.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (130, 300)])
def test_fp8_error(queries, keys):
    """Against float64: what rounding to e4m3 costs, no more. Keys have a mean, which smoothing takes out."""
    q, k, v = inputs(1, queries, keys, 2, 128)
    k = k + torch.randn(2, 128).to(BF16) * 3
    exact, exact_lse = reference.attention_with_lse(q.double(), k.double(), v.double())
    out, lse = attend("fp8", q, k, v)
    assert relative_error(out, exact) < 0.06
    torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-2, atol=5e-2)


@pytest.mark.parametrize(("heads", "text_len", "text_norms"), [(9, 37, True), (2, 0, False), (1, 150, False)])
def test_fp8_norm_and_rotation(heads, text_len, text_norms):
    """Norm, rotation and quantization in one pass, of views of a fused projection, garbage behind the last key."""
    generator = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(2, 150, 3, heads, 128, generator=generator).to(BF16) * 2).unbind(2)
    lengths = torch.tensor([150, 131])
    norms = [*(torch.rand(4, 128, generator=generator) + 0.5)]
    norms[2:] = norms[2:] if text_norms else (None, None)
    angle = torch.rand(150 - text_len, 64, generator=generator).repeat_interleave(2, 1) * 6
    rope = angle.cos(), angle.sin()
    ready = [
        reference.qk_norm_rope(x.double(), rope, norms[i], norms[2 + i], text_len, 1e-6) for i, x in enumerate((q, k))
    ]
    exact, exact_lse = reference.attention_with_lse(*ready, v.double(), kv_len=lengths)
    k[1, 131:], v[1, 131:] = NAN, NAN
    kernels().prepare_heads(norms, rope, text_len)
    out, lse = attend("fp8", q, k, v, kv_len=lengths)
    assert relative_error(out, exact) < 0.06
    torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-2, atol=5e-2)


def test_fp8_norm_and_rotation_beat_a_pass_of_their_own():
    """No bf16 rounding between norm and codes: at most the error of the two passes one after the other."""
    q, k, v = inputs(1, 260, 260, 1, 128)
    angle = torch.rand(260, 64).repeat_interleave(2, 1) * 6
    norms, rope = [*(torch.rand(2, 128) + 0.5), None, None], (angle.cos(), angle.sin())
    wide = [
        reference.qk_norm_rope(x.double(), rope, norm, None, 0, 1e-6) for x, norm in zip((q, k), norms[:2], strict=True)
    ]
    exact, _ = reference.attention_with_lse(*wide, v.double())
    two_passes, _ = attend("fp8", *(x.to(BF16) for x in wide), v)
    kernels().prepare_heads(norms, rope)
    one_pass, _ = attend("fp8", q, k, v)
    assert relative_error(one_pass, exact) <= 1.02 * relative_error(two_passes, exact)


def test_fp8_ignores_what_lies_behind_the_keys():
    q, k, v = inputs(2, 140, 300, 1, 128)
    lengths = torch.tensor([131, 0])
    dirty_k, dirty_v = k.clone(), v.clone()
    for sample, length in enumerate(lengths):
        dirty_k[sample, length:], dirty_v[sample, length:] = NAN, 1e30
    clean, dirty = attend("fp8", q, k, v, kv_len=lengths), attend("fp8", q, dirty_k, dirty_v, kv_len=lengths)
    assert torch.equal(clean[0], dirty[0]) and torch.equal(clean[1], dirty[1])
    assert (clean[0][1] == 0).all() and (clean[1][1] == -torch.inf).all()


def test_fp8_scales_by_tile():
    """Tiles of values of very different sizes keep their precision: each has its own scale."""
    q, k, v = inputs(1, 128, 256, 1, 128)
    q[:], k[:] = 0, 0  # uniform weights
    v[:, :128] *= 1e-4
    out, _ = attend("fp8", q, k, v)
    assert relative_error(out, v.double().mean(1, keepdim=True).expand_as(out)) < 0.06


@pytest.mark.parametrize("seed", [0, 1])
def test_fp8_maxima_that_grow(seed):
    """Keys are visited from the last to the first: of some rows the maximum grows with every tile, of others never."""
    q, k, v = inputs(1, 130, 1300, 1, 128)
    k *= torch.linspace(1.5, 0.5, 1300)[None, :, None, None].to(BF16)
    q[:, ::3] *= 0.01
    exact, exact_lse = reference.attention_with_lse(q.double(), k.double(), v.double())
    out, lse = attend("fp8", q, k, v, seed=seed)
    assert relative_error(out, exact) < 1.05 * relative_error(per_head_fp8(q, k, v), exact)
    torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-2, atol=5e-2)


def test_fp8_block_mask():
    q, k, v = inputs(1, 256, 512, 1, 128)
    mask = BlockMask.from_tiles(torch.tensor([[1, 0], [0, 1]], dtype=torch.bool), 128, 256)
    out, _ = attend("fp8", q, k, v, mask=mask)
    exact, _ = reference.attention_with_lse(q.double(), k.double(), v.double(), block_mask=mask)
    assert relative_error(out, exact) < 0.06


@pytest.mark.parametrize("dtype", [torch.float32, BF16, torch.float16])
@pytest.mark.parametrize(("heads", "dim", "text_len"), [(3, 128, 4), (5, 64, 0), (1, 8, 9)])
@pytest.mark.parametrize("in_place", [False, True])
def test_qk_norm_rope(dtype, heads, dim, text_len, in_place):
    generator = torch.Generator().manual_seed(1)
    batch, tokens = 2, 9
    q, k, _ = wide = torch.randn(batch, tokens, 3, heads, dim, generator=generator).to(dtype).unbind(2)
    before = [x.clone() for x in wide]
    norms = (torch.rand(4, dim, generator=generator) + 0.5).to(torch.float32 if dtype == torch.float16 else dtype)
    cos, sin = torch.randn(2, tokens - text_len, dim, generator=generator).unbind(0)
    out = [torch.full((batch, heads, tokens, dim), NAN).to(dtype).transpose(1, 2) for _ in range(2)]
    out = [q, k] if in_place else out
    strides = (("batch", 0), ("token", 1), ("head", 2))
    kernels().call(
        "qk_norm_rope", **{"in": (q.data_ptr(), k.data_ptr())}, out=[x.data_ptr() for x in out],
        norm=[x.data_ptr() for x in norms[:2]], text_norm=[x.data_ptr() for x in norms[2:]], cos=cos, sin=sin,
        batch=batch, tokens=tokens, heads=heads, head_dim=dim, text_tokens=text_len,
        cos_stride=cos.stride(0), sin_stride=sin.stride(0), eps=1e-6, dtype=dtype, norm_dtype=norms.dtype,
        **{f"in_{name}_stride": (q.stride(i), k.stride(i)) for name, i in strides},
        **{f"out_{name}_stride": [x.stride(i) for x in out] for name, i in strides},
    )  # fmt: skip
    assert torch.equal(wide[2], before[2])
    for i, x in enumerate(before[:2]):
        options = (cos, sin), norms[i], norms[2 + i]
        exact = reference.qk_norm_rope(
            x.double(), (cos.double(), sin.double()), *norms[[i, 2 + i]].double(), text_len, 1e-6
        )
        rounded = reference.qk_norm_rope(x, *options, text_len, 1e-6).to(dtype)
        assert_error_within(out[i], exact, rounded)
