"""Attention and norms on a device, with emulated kernels behind the binding: views, lengths, bad arguments."""

from __future__ import annotations

import pytest
import torch
from emulated import binding
from fp8_attention import relative_error
from on_device import as_on_cuda

from hunyuan_ext import BlockMask, reference
from hunyuan_ext.attention import cuda, norm_rope
from hunyuan_ext.norm import kernels

BF16 = torch.bfloat16


@pytest.fixture
def native():
    """The emulated kernels, for CPU tensors that stand for CUDA ones."""
    module = binding()
    with as_on_cuda(module):
        yield module


def heads(batch, queries, keys, count=2, dim=128):
    """[B, H, S, D] as a projection leaves them: views of one buffer, and values that start anywhere."""
    q, k = (torch.randn(batch, length, 3, count, dim).to(BF16)[:, :, 1] for length in (queries, keys))
    v = torch.randn(batch * keys * count * dim + 1).to(BF16)[1:].view(batch, keys, count, dim)
    assert v.data_ptr() % 16 and q.stride(1) == 3 * count * dim
    return [x.transpose(1, 2) for x in (q, k, v)]


def exact(q, k, v, **options):
    return reference.attention_with_lse(*(x.transpose(1, 2).double() for x in (q, k, v)), **options)


@pytest.mark.parametrize("dim", [64, 128])
def test_attention(native, dim):
    q, k, v = heads(2, 131, 200, dim=dim)
    kv_len = torch.tensor([200, 0], dtype=torch.int32)
    out, lse = cuda.attention(q, k, v, kv_len, None, 0.1)
    wanted, wanted_lse = exact(q, k, v, kv_len=kv_len, scale=0.1)
    assert out.shape == (2, 131, 2, dim) and relative_error(out, wanted) < 5e-3
    torch.testing.assert_close(lse.double(), wanted_lse, rtol=1e-3, atol=1e-3)


def test_attention_of_a_block_mask(native):
    q, k, v = heads(1, 300, 500)
    mask = BlockMask.from_tiles(torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).bool(), 128, 128)
    out, lse = cuda.attention(q, k, v, None, mask, 0.1)
    wanted, wanted_lse = exact(q, k, v, block_mask=mask, scale=0.1)
    assert relative_error(out, wanted) < 5e-3 and (out[:, 128:256] == 0).all()
    torch.testing.assert_close(lse.double(), wanted_lse, rtol=1e-3, atol=1e-3)


def test_fp8_attention_with_norms_and_rotation(native):
    tokens, text = 150, 20
    q, k, v = (x.transpose(1, 2) for x in heads(1, tokens, tokens, 3))
    norms = torch.rand(4 * 128 + 1).to(BF16)[1:].add_(0.5).view(4, 128).unbind(0)
    angle = (torch.rand(tokens - text, 64) * 6).repeat_interleave(2, 1)
    rope, kv_len = (angle.cos(), angle.sin()), torch.tensor([140], dtype=torch.int32)
    out = cuda.rope_attention_fp8(q, k, v, norms, rope, text, 1e-6, kv_len, None, 0.09)
    ready = [
        reference.qk_norm_rope(x.double(), rope, norms[i].double(), norms[2 + i].double(), text, 1e-6)
        for i, x in enumerate((q, k))
    ]
    wanted, _ = reference.attention_with_lse(*ready, v.double(), kv_len=kv_len, scale=0.09)
    assert out.shape == q.shape and relative_error(out, wanted) < 0.06


def test_fp8_attention_of_a_block_mask_without_norms(native):
    q, k, v = (x.transpose(1, 2) for x in heads(1, 256, 256))
    mask = BlockMask.from_tiles(torch.tensor([[1, 0], [1, 1]]).bool(), 128, 128)
    out = cuda.rope_attention_fp8(q, k, v, (None,) * 4, None, 0, 1e-6, None, mask, 0.09)
    wanted, _ = reference.attention_with_lse(q.double(), k.double(), v.double(), block_mask=mask, scale=0.09)
    assert relative_error(out, wanted) < 0.06


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_norm_and_rotation(native, dtype):
    """With one norm, one of the text alone, and weights anywhere in memory."""
    q, k = (x.transpose(1, 2).to(dtype) for x in heads(2, 9, 9, 3, 64)[:2])
    norms = torch.rand(3 * 64 + 1).to(dtype)[1:].view(3, 64)
    given = norms[0], norms[1], None, norms[2]
    rope = torch.randn(2, 7, 64).unbind(0)
    out = norm_rope.qk_norm_rope(q, k, given, rope, 2, 1e-6)
    for x, result, norm, text in ((q, out[0], given[0], None), (k, out[1], given[1], given[3])):
        wanted = reference.qk_norm_rope(
            x.double(), rope, norm.double(), None if text is None else text.double(), 2, 1e-6
        )
        assert relative_error(result.transpose(1, 2), wanted) < (1e-5 if dtype == torch.float32 else 5e-3)


def test_group_norm_from_anywhere_in_memory(native):
    """It makes its workspace, and a copy of a volume that is not aligned."""
    x = torch.randn(2 * 3 * 5 * 7 * 64 + 1).to(BF16)[1:].view(2, 3, 5, 7, 64).permute(0, 4, 1, 2, 3)
    weight, bias = torch.randn(2, 64)
    out = kernels.group_norm_silu(x, weight, bias, 8, 1e-6, True, (2, 1, 1))
    wanted = reference.group_norm_silu(x.double(), weight.double(), bias.double(), groups=8, pad=(2, 1, 1))
    assert x.data_ptr() % 16 and relative_error(out, wanted) < 5e-3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(kv_len=torch.tensor([3])), TypeError, "kv_len: has another dtype"),
        (dict(kv_len=torch.tensor([3, 3], dtype=torch.int32)), ValueError, "kv_len: its shape"),
        (dict(lse=torch.zeros(1, 2, 3)), ValueError, "lse: its shape"),
        (dict(v=torch.zeros(1, 5, 2, 128).to(BF16)), ValueError, "v: its shape"),
        (dict(k=torch.zeros(1, 6, 2, 130).to(BF16)[..., 1:129]), ValueError, "multiples of 16 bytes"),
        (dict(blocks=(torch.zeros(1, dtype=torch.int32),) * 2 + (128, 128)), ValueError, "do not cover all queries"),
        (dict(blocks=(torch.zeros(2, dtype=torch.int32),) * 2 + (64, 128)), ValueError, "must be multiples of 128"),
        (dict(scale=-1.0), ValueError, "scale must be positive"),
    ],
)
def test_bad_arguments_are_refused(native, change, error, message):
    q, k = torch.zeros(1, 4, 2, 128).to(BF16), torch.zeros(1, 6, 2, 128).to(BF16)
    given = dict(q=q, k=k, v=k, out=q.clone(), lse=torch.zeros(1, 2, 4), kv_len=None, blocks=None, scale=0.1)
    with pytest.raises(error, match=message):
        native.attention(*(given | change).values())
