"""The 3D rotary table."""

import math

import pytest
import torch

import hunyuan_ext as ops
from hunyuan_ext.reference import rotate_pairs
from hunyuan_video.models import rope_table
from hunyuan_video.models.transformer.rope import cached_rope_table, longest_unrepeated


@pytest.mark.parametrize("name", ["0", "1", "2", "3"])
def test_golden_rope(golden, name):
    case = golden("rope")
    settings, given, expected = case.facts["config"][name], case.part("in"), case.part("out")
    cos, sin = rope_table(tuple(settings["grid_thw"]), dims=tuple(settings["rope_dim_list"]), theta=settings["theta"])
    assert cos.shape == sin.shape == (settings["S"], sum(settings["rope_dim_list"]))
    assert cos.dtype == torch.float32
    rows = expected[f"{name}.rows"]
    for table, key in ((cos, "cos"), (sin, "sin")):
        torch.testing.assert_close(table[rows], expected[f"{name}.{key}"], rtol=0, atol=2e-6)
        torch.testing.assert_close(
            table.double().sum(0), expected[f"{name}.{key}_sum"], rtol=1e-6, atol=1e-6 * settings["S"]
        )
    for key in ("q", "k"):
        turned = rotate_pairs(given[f"{name}.{key}"], cos[rows], sin[rows])
        torch.testing.assert_close(turned, expected[f"{name}.{key}_rot"], rtol=0, atol=1e-5)


def test_hand_numbers():
    cos, sin = rope_table((2, 1, 2), dims=(2, 2, 4), theta=16.0)
    # row 3 is token (1, 0, 1): angle 1 on t, 0 on y, (1, 16 ** -0.5) on x; every column twice
    angle = torch.tensor([1.0, 1, 0, 0, 1, 1, 0.25, 0.25])
    torch.testing.assert_close(cos[3], angle.cos())
    torch.testing.assert_close(sin[3], angle.sin())
    assert torch.equal(cos[0], torch.ones(8))
    assert torch.equal(sin[0], torch.zeros(8))


def test_attention_depends_on_relative_position_only():
    """Shifting every token by one along y leaves attention as it is: the point of rotary embedding."""
    cos, sin = (t.view(1, 5, 1, 16) for t in rope_table((1, 5, 1), dims=(4, 8, 4)))
    q, k, v = torch.randn(3, 1, 4, 2, 16)
    near, far = (
        ops.rope_attention(q, k, v, rope=(cos[0, rows, 0].contiguous(), sin[0, rows, 0].contiguous()))
        for rows in (slice(0, 4), slice(1, 5))
    )
    torch.testing.assert_close(near, far, rtol=0, atol=1e-5)


def test_cache_returns_the_same_tensors():
    device = torch.device("cpu")
    first = cached_rope_table((1, 2, 3), (4, 6, 6), 256.0, device)
    assert first[0] is cached_rope_table((1, 2, 3), (4, 6, 6), 256.0, device)[0]
    assert torch.equal(first[0], rope_table((1, 2, 3), dims=(4, 6, 6))[0])


@pytest.mark.parametrize(
    ("grid", "dims", "message"),
    [((1, 2, 3), (3, 6, 7), "even"), ((0, 2, 3), (4, 6, 6), "positive"), ((2, 3), (4, 6, 6), "3 entries")],
)
def test_bad_tables_are_refused(grid, dims, message):
    with pytest.raises(ValueError, match=message):
        rope_table(grid, dims=dims)


def test_the_lowered_frequency_has_less_than_one_period():
    """The released model's: 50.3 latent frames for frequency 4, beyond which it becomes 0.9 periods of the clip."""
    exact, lowered = rope_table((66, 1, 2)), rope_table((66, 1, 2), lowered=4)
    positions = torch.arange(66.0).repeat_interleave(2)
    assert torch.allclose(lowered[0][:, 6], (positions * 0.9 * 2 * math.pi / 66).cos(), atol=1e-5)
    same = [column for column in range(128) if column not in (6, 7)]
    assert all(torch.equal(a[:, same], b[:, same]) for a, b in zip(exact, lowered, strict=True))
    assert longest_unrepeated(16, 256.0, 4) == 45
    for frames, equal in ((45, True), (46, False)):
        tables = rope_table((frames, 1, 1))[0], rope_table((frames, 1, 1), lowered=4)[0]
        assert torch.equal(*tables) == equal
    with pytest.raises(ValueError, match="numbered 1 to 8, got 9"):
        rope_table((66, 1, 2), lowered=9)
