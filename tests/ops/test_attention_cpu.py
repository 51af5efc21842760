"""The CPU attention kernels, each unit on each level: the correctness rule, padding, sparsity, threads, the choice."""

import functools

import pytest
import torch
from op_accuracy import DTYPES, LEVELS, assert_error_within, needs_native, poisoned_outputs  # noqa: F401

import hunyuan_ext as ops
from hunyuan_ext import BlockMask, reference
from hunyuan_ext.attention import cpu
from hunyuan_ext.core import native

pytestmark = needs_native


def available(level):
    with native.forced("native", level):
        return [unit for unit in range(4) if native.module.has_attention_unit(unit)]


# (level, unit): float32 on every level, the bfloat16 units on the last one.
PATHS = [(level, unit) for level in LEVELS for unit in (available(level) if level == LEVELS[-1] else [0])]
NAMES = [f"{level}-{cpu.UNITS[unit]}" for level, unit in PATHS]
every_path = pytest.mark.parametrize(("level", "unit"), PATHS, ids=NAMES)
SHAPES = [
    *((2, 1, 2, 16), (1, 7, 3, 32), (2, 63, 1, 48), (1, 65, 2, 64)),
    *((1, 257, 1, 80), (1, 129, 2, 96), (1, 300, 1, 112), (1, 290, 2, 128)),
]


def table(tokens, dim, generator):
    angle = torch.rand(tokens, dim // 2, generator=generator) * 6
    return angle.cos().repeat_interleave(2, 1), angle.sin().repeat_interleave(2, 1)


def make(shape, dtype, text_len=0, seed=0):
    """q, k, v as strided views of one fused projection, and all the options."""
    generator = torch.Generator().manual_seed(seed)
    batch, tokens, heads, dim = shape
    q, k, v = torch.randn(batch, tokens, 3, heads, dim, generator=generator).to(dtype).unbind(2)
    weights = (torch.rand(4, dim, generator=generator) + 0.5).to(dtype).unbind(0)
    rope = table(tokens - text_len, dim, generator)
    return q, k, v, dict(rope=rope, q_norm=weights[0], k_norm=weights[1], text_norms=weights[2:], text_len=text_len)


def wide(value):
    if isinstance(value, tuple):
        return tuple(map(wide, value))
    return value.double() if isinstance(value, torch.Tensor) and value.dtype.is_floating_point else value


def run(level, unit, q, k, v, options, threads=1):
    """Straight through the kernel, whatever the table says."""
    options = dict(text_len=0, eps=1e-6, scale=None, block_mask=None, kv_len=None, rope=None) | options
    norms = options.get("q_norm"), options.get("k_norm"), *(options.get("text_norms") or (None, None))
    rest = (options[name] for name in ("text_len", "kv_len", "eps", "scale", "block_mask"))
    row = cpu.Row(q.dtype, cpu.UNITS[unit], None, True, "")
    attention = cpu.Attention(row, (q, k, v, *norms, *(options["rope"] or ())), k.shape[1], q.shape[3])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with native.forced("native", level):
            return attention.run(q, k, v, norms, options["rope"], *rest)
    finally:
        torch.set_num_threads(before)


def check(level, unit, q, k, v, options):
    exact = reference.rope_attention(q.double(), k.double(), v.double(), **{n: wide(o) for n, o in options.items()})
    plain = (
        x.bfloat16() if unit in (1, 2) else x for x in (q, k, v)
    )  # float32 tensors on a bfloat16 unit: as good as bfloat16
    baseline = reference.rope_attention(*plain, **options).to(v.dtype)
    out = run(level, unit, q, k, v, options)
    assert_error_within(out, exact, baseline)
    return out


@every_path
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_error_within_twice_that_of_torch(shape, dtype, level, unit):
    text_len = shape[1] // 3
    q, k, v, options = make(shape, dtype, text_len)
    check(level, unit, q, k, v, options)
    check(level, unit, q, k, v, dict(text_len=text_len, scale=0.3))  # no norm, no rotation
    options["kv_len"] = (torch.arange(shape[0]) + max(1, shape[1] - text_len)).clamp(max=shape[1])
    options.pop("text_norms")
    check(level, unit, q, k, v, options)


@every_path
def test_sums_over_many_keys_stay_accurate(level, unit):
    if level == "scalar":
        pytest.skip("the same order of additions as the other levels, in minutes")
    q, k, v, options = make((1, 3000, 1, 32), torch.float32)
    check(level, unit, q, k, v, options)


@every_path
def test_large_scores_do_not_overflow(level, unit):
    q, k, v, _ = make((1, 70, 2, 64), torch.float32)
    out = check(level, unit, q * 40, k * 40, v, {})
    assert out.isfinite().all()


@every_path
def test_padded_keys_are_never_read(level, unit):
    q, k, v, options = make((2, 140, 2, 64), torch.bfloat16, text_len=60)
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    options["kv_len"] = torch.tensor([97, 140])
    clean = run(level, unit, q, k, v, options)
    k[0, 97:], v[0, 97:] = float("nan"), float("inf")
    assert torch.equal(clean, run(level, unit, q, k, v, options)) and clean.isfinite().all()


@every_path
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_and_batches_do_not_change_a_bit(dtype, level, unit):
    q, k, v, options = make((2, 300, 3, 64), dtype, text_len=31)
    options["kv_len"] = torch.tensor([280, 300])
    entry = run(level, unit, q, k, v, options, threads=1)
    assert torch.equal(entry, run(level, unit, q, k, v, options, threads=2))
    for i in range(2):
        alone = options | dict(kv_len=options["kv_len"][i : i + 1])
        assert torch.equal(entry[i : i + 1], run(level, unit, q[i : i + 1], k[i : i + 1], v[i : i + 1], alone))


@every_path
@pytest.mark.parametrize(("query_tile", "key_tile"), [(64, 64), (50, 30), (7, 5), (256, 96)])
def test_block_mask_equals_the_dense_mask(query_tile, key_tile, level, unit):
    tokens = 331
    q, k, v, options = make((1, tokens, 2, 64), torch.bfloat16, text_len=20)
    generator = torch.Generator().manual_seed(3)
    tiles = torch.rand(-(-tokens // query_tile), -(-tokens // key_tile), generator=generator) < 0.4
    tiles[:, 1] = True  # no query without keys
    options["block_mask"] = BlockMask.from_tiles(tiles, query_tile, key_tile)
    sparse = check(level, unit, q, k, v, options)
    full = run(level, unit, q, k, v, options | dict(block_mask=None))
    assert (sparse - full).abs().max() > 1e-2
    options["kv_len"] = torch.tensor([2 * key_tile + 3])
    check(level, unit, q, k, v, options)


@every_path
def test_a_query_without_keys_gives_zeros(level, unit):
    q, k, v, options = make((1, 64, 1, 32), torch.float32)
    options["block_mask"] = BlockMask.from_tiles(torch.tensor([[True, False], [False, False]]), 32, 32)
    out = run(level, unit, q, k, v, options)
    assert out[:, :32].abs().min() > 0 and (out[:, 32:] == 0).all()


@every_path
def test_an_infinite_value_stays_in_its_column(level, unit):
    q, k, v, _ = make((1, 50, 1, 32), torch.float32)
    v = v.clone()
    v[0, 9, 0, 3] = float("inf")
    out = run(level, unit, q, k, v, {})
    assert not out[0, :, 0, 3].isfinite().any() and out.isfinite().sum() == 50 * 31


@every_path
def test_a_nan_stays_in_its_row(level, unit):
    q, k, v, _ = make((1, 50, 1, 32), torch.bfloat16)
    q = q.clone()
    q[0, 7, 0, 3] = float("nan")
    out = run(level, unit, q, k, v, {})
    assert out[0, 7].isnan().all() and out.isnan().sum() == 32


def kernel_calls(monkeypatch):
    """The units of the calls that reach a kernel from now on."""
    calls = []
    monkeypatch.setattr(native.module, "rope_attention", functools.partial(record, calls, native.module.rope_attention))
    return calls


def record(calls, function, *arguments):
    calls.append(arguments[-2])
    return function(*arguments)


@pytest.mark.parametrize("dtype", DTYPES)
def test_capabilities_tell_what_runs(dtype, monkeypatch):
    calls = kernel_calls(monkeypatch)
    q, k, v, options = make((1, 40, 2, 64), dtype, text_len=8)
    for mode in ("auto", "native", "reference"):
        calls.clear()
        with native.forced(mode):
            out = ops.rope_attention(q, k, v, **options)
            entry = ops.capabilities()["ops"]["rope_attention"]["cpu"][str(dtype).removeprefix("torch.")]
            assert out.shape == q.shape
            assert bool(calls) == (entry["implementation"] == "native")
            if calls:
                assert f"own {cpu.UNITS[calls[0]]} kernel" in entry["reason"]


def test_what_the_kernel_cannot_take_is_composed(monkeypatch):
    calls = kernel_calls(monkeypatch)
    q, k, v, _ = make((1, 9, 2, 64), torch.float32)
    narrow = [x[..., :24] for x in (q, k, v)]
    with native.forced("native"):
        ops.rope_attention(*narrow)
        ops.rope_attention(q.clone().requires_grad_(), k, v)
        ops.rope_attention(q, k, v, scale=-1.0)
        ops.rope_attention(q.double(), k.double(), v.double())
        with torch.autocast("cpu", torch.bfloat16):
            ops.rope_attention(q, k, v)
        assert not calls
        ops.rope_attention(q, k, v)
        ops.rope_attention(q, k, v, precision="fp32")
        assert len(calls) == 2 and set(calls) <= {0, 3}


def test_a_sparse_list_is_worth_it_everywhere(monkeypatch):
    calls = kernel_calls(monkeypatch)
    q, k, v, options = make((1, 64, 1, 32), torch.float32)
    with native.forced("auto"):
        if native.isa() == "scalar":
            pytest.skip("no vector unit: torch computes the dense mask")
        ops.rope_attention(q, k, v, **options, block_mask=BlockMask.from_tiles(torch.eye(4, dtype=torch.bool), 16, 16))
    assert calls in ([0], [3])


def test_bad_lists_are_refused():
    q, k, v, _ = make((1, 64, 1, 32), torch.float32)
    with native.forced("native"):
        for tiles, message in ((torch.ones(2, 4), "covers 32 queries, 64 are given"), (torch.ones(4, 5), "key tile 4")):
            with pytest.raises(ValueError, match=f"block_mask: {message}"):
                ops.rope_attention(q, k, v, block_mask=BlockMask.from_tiles(tiles.bool(), 16, 16))
        starts = torch.tensor([0, 3, 1, 4, 4], dtype=torch.int32)
        with pytest.raises(ValueError, match="row_starts of the block mask must rise from 0 to its 4 pairs"):
            ops.rope_attention(q, k, v, block_mask=BlockMask(starts, torch.arange(4, dtype=torch.int32), 16, 16))


def test_few_tokens_of_many_heads_in_float32_are_left_to_torch(monkeypatch):
    calls = kernel_calls(monkeypatch)
    if native.forced_isa is not None or cpu.find_row(torch.float32) is None or native.isa() == "scalar":
        pytest.skip("the kernel is forced, or absent")
    with torch.no_grad(), native.forced("auto"):
        for heads, tokens, dtype in ((9, 24, torch.float32), (9, 25, torch.float32), (8, 24, torch.float32)):
            x = torch.randn(1, tokens, heads, 32, dtype=dtype)
            torch.testing.assert_close(ops.rope_attention(x, x, x), reference.rope_attention(x, x, x))
    assert len(calls) == 2
