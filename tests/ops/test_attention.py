"""rope_attention: the fused norm + rotation pass and the attention, against the float64 reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_accuracy import DTYPES, LEVELS, assert_error_within, needs_native, poisoned_outputs  # noqa: F401

import hunyuan_ext as ops
from hunyuan_ext import BlockMask, reference
from hunyuan_ext.attention import norm_rope
from hunyuan_ext.core import native


def table(tokens, dim, generator):
    angle = torch.rand(tokens, dim // 2, generator=generator) * 6
    return angle.cos().repeat_interleave(2, 1), angle.sin().repeat_interleave(2, 1)


def make(shape, dtype, text_len=0, seed=0, rope=True, norms=True, text_norms=True):
    """q, k, v as views of one fused projection, and the keyword arguments."""
    generator = torch.Generator().manual_seed(seed)
    batch, tokens, heads, dim = shape
    qkv = torch.randn(batch, tokens, 3, heads, dim, generator=generator).to(dtype)
    weights = (torch.rand(4, dim, generator=generator) + 0.5).to(dtype).unbind(0)
    options = dict(text_len=text_len)
    if rope:
        options["rope"] = table(tokens - text_len, dim, generator)
    if norms:
        options |= dict(q_norm=weights[0], k_norm=weights[1])
    if norms and text_norms:
        options["text_norms"] = weights[2:]
    return *qkv.unbind(2), options


def wide(value):
    """Tensors, also inside tuples, in float64."""
    if isinstance(value, tuple):
        return tuple(map(wide, value))
    return value.double() if isinstance(value, torch.Tensor) and value.dtype.is_floating_point else value


def check(q, k, v, options):
    exact = reference.rope_attention(q.double(), k.double(), v.double(), **{n: wide(o) for n, o in options.items()})
    out = ops.rope_attention(q, k, v, **options)
    assert_error_within(out, exact, reference.rope_attention(q, k, v, **options))
    return out


@needs_native
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "text_len"),
    [((2, 9, 3, 16), 4), ((1, 1, 1, 2), 0), ((1, 37, 2, 128), 5), ((2, 12, 1, 24), 12), ((1, 8, 2, 10), 0)],
)
def test_error_within_twice_that_of_torch(shape, text_len, dtype, level):
    with native.forced("native", level):
        check(*make(shape, dtype, text_len))


@needs_native
@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 3), st.integers(1, 20).map(lambda n: 2 * n)),
    text=st.floats(0, 1),
    dtype=st.sampled_from(DTYPES),
    level=st.sampled_from(LEVELS),
    rope=st.booleans(),
    norms=st.booleans(),
    text_norms=st.booleans(),
    lengths=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
)
def test_any_shape(shape, text, dtype, level, rope, norms, text_norms, lengths, seed):
    q, k, v, options = make(shape, dtype, int(text * shape[1]), seed, rope, norms, text_norms)
    options["kv_len"] = torch.tensor([1 + int(part * (shape[1] - 1)) for part in lengths[: shape[0]]])
    with native.forced("native", level):
        check(q, k, v, options)


@needs_native
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_and_rotation_alone(dtype, level):
    q, k, _, options = make((2, 11, 3, 40), dtype, text_len=3)
    norms = options["q_norm"], options["k_norm"], *options["text_norms"]
    with native.forced("native", level):
        outs = norm_rope.qk_norm_rope(q, k, norms, options["rope"], 3, 1e-6)
    for out, x, norm, text_norm in ((outs[0], q, norms[0], norms[2]), (outs[1], k, norms[1], norms[3])):
        exact = reference.qk_norm_rope(x.double(), wide(options["rope"]), norm.double(), text_norm.double(), 3, 1e-6)
        baseline = reference.qk_norm_rope(x, options["rope"], norm, text_norm, 3, 1e-6)
        assert_error_within(out.transpose(1, 2), exact, baseline)
        assert out.is_contiguous()


@pytest.mark.parametrize("mode", ["native", "reference"])
def test_padded_keys_are_never_read(mode):
    if mode == "native" and native.module is None:
        pytest.skip("native module absent")
    q, k, v, options = make((2, 10, 2, 16), torch.float32, text_len=4)
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    with native.forced(mode):
        for lengths in ([8, 8], [7, 10]):
            clean = ops.rope_attention(q, k, v, kv_len=torch.tensor(lengths), **options)
            dirty_k, dirty_v = k.clone(), v.clone()
            for sample, length in enumerate(lengths):
                dirty_k[sample, length:] = float("nan")
                dirty_v[sample, length:] = float("inf")
            dirty = ops.rope_attention(q, dirty_k, dirty_v, kv_len=torch.tensor(lengths), **options)
            assert torch.equal(clean, dirty) and clean.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_do_not_influence_each_other(dtype):
    q, k, v, options = make((3, 12, 2, 16), dtype, text_len=5)
    lengths = torch.tensor([8, 12, 9])
    together = ops.rope_attention(q, k, v, kv_len=lengths, **options)
    for i in range(3):
        alone = ops.rope_attention(q[i : i + 1], k[i : i + 1], v[i : i + 1], kv_len=lengths[i : i + 1], **options)
        assert torch.equal(together[i : i + 1], alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_block_mask_equals_the_dense_mask(dtype):
    grid, tile, text_len = (2, 4, 4), (1, 2, 2), 3
    q, k, v, options = make((1, 35, 2, 16), dtype, text_len)
    options["block_mask"] = BlockMask.sliding_tile(grid, tile, (1, 3, 1), text_len)
    sparse = check(q, k, v, options)
    full = ops.rope_attention(q, k, v, **options | dict(block_mask=None))
    assert (sparse - full).abs().max() > 1e-2
    options["kv_len"] = torch.tensor([33])
    check(q, k, v, options)


def test_scale_eps_and_precision():
    q, k, v, options = make((1, 6, 2, 8), torch.float32)
    check(q, k, v, options | dict(scale=0.1, eps=0.5))
    lower = ops.rope_attention(q, k, v, precision="bf16", **options)
    higher = ops.rope_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), precision="fp32")
    assert lower.dtype == torch.float32 and higher.dtype == torch.bfloat16
    assert 0 < (lower - ops.rope_attention(q, k, v, **options)).abs().max() < 0.05


def test_gradients_of_the_composed_form_equal_the_reference():
    q, k, v, options = make((2, 9, 2, 8), torch.float64, text_len=3)
    lengths = torch.tensor([7, 9])
    leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    ours = torch.autograd.grad(ops.rope_attention(*leaves, kv_len=lengths, **options).square().sum(), leaves)
    theirs = torch.autograd.grad(reference.rope_attention(*leaves, kv_len=lengths, **options).square().sum(), leaves)
    for ours_of, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(ours_of, other)


def test_autocast_computes_in_bfloat16_like_the_reference():
    q, k, v, options = make((1, 9, 2, 16), torch.bfloat16, text_len=3)
    options = {name: value.float() if name.endswith("_norm") else value for name, value in options.items()}
    with torch.autocast("cpu", torch.bfloat16):
        out = ops.rope_attention(q, k, v, **options)
        expected = reference.rope_attention(q, k, v, **options)
    assert out.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected)


def test_empty_batch_and_no_heads():
    for shape in ((0, 4, 2, 8), (2, 4, 0, 8)):
        q, k, v, options = make(shape, torch.float32)
        assert ops.rope_attention(q, k, v, **options).shape == shape


def test_meta_tensors_give_shapes():
    q = torch.empty(2, 9, 3, 16, device="meta")
    rope = (torch.empty(5, 16, device="meta"),) * 2
    out = ops.rope_attention(q, q, q, rope=rope, text_len=4, kv_len=torch.empty(2, dtype=torch.int64, device="meta"))
    assert out.shape == q.shape and out.is_meta


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(q=torch.zeros(2, 5, 16)), ValueError, r"q: shape \[2, 5, 16\] has 3 dimensions, \[B, S, H, D\]"),
        (dict(k=torch.zeros(2, 5, 1, 16)), ValueError, r"k: shape \[2, 5, 1, 16\].*\[2, 5, 2, 16\]"),
        (dict(v=torch.zeros(2, 4, 2, 16)), ValueError, "v: shape"),
        (dict(text_len=6), ValueError, "text_len: 6 text tokens, but q has 5 tokens"),
        (dict(q_norm=torch.ones(8)), ValueError, r"q_norm: shape \[8\].*\[16\]"),
        (dict(text_norms=(torch.ones(16), torch.ones(2))), ValueError, r"text_norms\[1\]: shape \[2\]"),
        (
            dict(rope=(torch.ones(4, 16), torch.ones(5, 16))),
            ValueError,
            r"rope\[0\] \(cos\): shape \[4, 16\].*\[5, 16\]",
        ),
        (dict(kv_len=torch.tensor([5, 6])), ValueError, "kv_len: 6 valid tokens, but 1 to 5"),
        (dict(kv_len=torch.tensor([0, 5])), ValueError, "kv_len: 0 valid tokens"),
        (dict(kv_len=torch.tensor([5])), ValueError, r"kv_len: an integer tensor \[2\]"),
        (dict(kv_len=torch.tensor([5.0, 5.0])), ValueError, "kv_len: an integer tensor"),
        (dict(precision="fp4"), ValueError, "precision: 'fp4' is not one of 'auto', 'fp32'"),
        (dict(precision="int8"), ValueError, "precision: no int8 attention kernel for cpu"),
        (dict(precision="fp8"), ValueError, r"precision: the fp8 kernel.*\(no .* kernel for cpu\); use auto"),
        (dict(eps=0), ValueError, "eps: must be positive"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    x = torch.zeros(2, 5, 2, 16)
    with pytest.raises(error, match=message):
        ops.rope_attention(**dict(q=x, k=x, v=x) | arguments)


def test_rotary_pairs_need_an_even_head():
    x = torch.zeros(1, 2, 1, 3)
    with pytest.raises(ValueError, match="rope: pairs need an even head dimension, q has 3"):
        ops.rope_attention(x, x, x, rope=(torch.ones(2, 3), torch.ones(2, 3)))


def separate(shape, keys, dtype=torch.float32, seed=0):
    """q of `shape` and k, v with another number of tokens."""
    generator = torch.Generator().manual_seed(seed)
    batch, _, heads, dim = shape
    return [torch.randn(size, generator=generator).to(dtype) for size in (shape, *[(batch, keys, heads, dim)] * 2)]


@pytest.mark.parametrize("dtype", [torch.float64, *DTYPES])
def test_attention_with_lse_is_softmax_attention(dtype):
    q, k, v = separate((2, 7, 3, 16), 11, dtype)
    out, lse = ops.attention_with_lse(q, k, v, scale=0.3, kv_len=torch.tensor([11, 4]))
    for sample, length in enumerate((11, 4)):
        scores = torch.einsum("qhd,khd->hqk", q[sample].double(), k[sample, :length].double()) * 0.3
        exact = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[sample, :length].double())
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(out[sample].double(), exact, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(lse[sample].double(), scores.logsumexp(-1), rtol=1e-5, atol=1e-5)


def test_parts_of_the_keys_merge_by_lse():
    q, k, v = separate((1, 5, 2, 8), 9, torch.float64)
    whole, lse = ops.attention_with_lse(q, k, v)
    parts = [ops.attention_with_lse(q, k[:, part], v[:, part]) for part in (slice(0, 4), slice(4, 9))]
    weights = torch.stack([part[1] for part in parts]).softmax(0).transpose(2, 3)[..., None]  # [2, B, Q, H, 1]
    torch.testing.assert_close(sum(w * part[0] for w, part in zip(weights, parts, strict=True)), whole)
    torch.testing.assert_close(torch.logaddexp(parts[0][1], parts[1][1]), lse)


def test_rows_without_keys_are_zero():
    q, k, v = separate((2, 4, 1, 8), 4)
    mask = BlockMask(torch.tensor([0, 0, 1], dtype=torch.int32), torch.tensor([1], dtype=torch.int32), 2, 2)
    out, lse = ops.attention_with_lse(q, k, v, block_mask=mask, kv_len=torch.tensor([4, 2]))
    assert (out[:, :2] == 0).all() and (lse[:, :, :2] == -torch.inf).all()
    assert (out[1] == 0).all() and (out[0, 2:] != 0).all() and lse[0, :, 2:].isfinite().all()


def test_attention_with_lse_names_bad_arguments():
    q, k, v = separate((2, 4, 1, 8), 5)
    with pytest.raises(ValueError, match=r"k: shape \[1, 5, 1, 8\]"):
        ops.attention_with_lse(q, k[:1], v)
    with pytest.raises(ValueError, match=r"v: shape \[2, 4, 1, 8\]"):
        ops.attention_with_lse(q, k, v[:, :4])
    with pytest.raises(ValueError, match="kv_len: an integer tensor"):
        ops.attention_with_lse(q, k, v, kv_len=torch.ones(2))
