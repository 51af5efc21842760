"""Bytes and the models' [-1, 1]: there and back, and no number that is not finite becomes a byte."""

from __future__ import annotations

import pytest
import torch

from hunyuan_video import UserError
from hunyuan_video.media.pixels import check_finite, to_bytes, to_display, to_frames, to_unit


def test_every_byte_comes_back():
    frames = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16, 1).expand(-1, -1, -1, -1, 3)
    unit = to_unit(frames)
    assert unit.shape == (1, 3, 1, 16, 16) and unit.min() == -1 and unit.max() == 1
    assert torch.equal(to_frames(unit), frames)


def test_values_are_rounded_and_cut_off():
    values = torch.tensor([-3.0, -1 + 0.9 / 127.5, -1 + 0.2 / 127.5, 0.0, 1.0, 7.0])
    assert to_bytes(to_display(values)).tolist() == [0, 1, 0, 128, 255, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("use", [to_frames, lambda video: to_bytes(video)])
def test_what_is_not_finite_is_refused_with_its_place(value, use):
    video = torch.zeros(1, 3, 2, 4, 4)
    video[0, 1, 1, 2, 3] = value
    with pytest.raises(UserError, match=r"NaN or infinity in 1 of 96 values \(\[0, 1, 1, 2, 3\] first\)"):
        use(video)


def test_the_line_names_what_and_says_what_to_do():
    check_finite(torch.ones(3), "x", "y")
    with pytest.raises(UserError, match="^the latents hold NaN .* first\\); sample again$"):
        check_finite(torch.full((3,), float("nan")), "the latents", "sample again")


def test_large_videos_are_worked_on_in_parts_with_the_same_result():
    video = torch.rand(1, 3, 40, 160, 200, generator=torch.Generator().manual_seed(0)) * 2.2 - 1.1  # 3.8 million values
    plain = ((video / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    assert torch.equal(to_bytes(to_display(video)), plain)
    assert torch.equal(to_frames(video), plain.permute(0, 2, 3, 4, 1)) and to_frames(video).is_contiguous()
    video[0, 2, 39, 100, 199] = float("nan")
    with pytest.raises(UserError, match=r"\[0, 2, 39, 100, 199\] first"):
        to_frames(video)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finite_values_whose_sum_is_not_finite_are_fine_and_infinities_that_cancel_are_not(dtype):
    values = torch.full((4, 4), torch.finfo(dtype).max, dtype=dtype)
    check_finite(values, "the frames")
    values[0, 0], values[3, 3] = float("inf"), -float("inf")
    with pytest.raises(UserError, match=r"in 2 of 16 values \(\[0, 0\] first\)"):
        check_finite(values, "the frames")
