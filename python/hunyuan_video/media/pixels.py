"""Ranges of pixel values: bytes on disk and screen, [-1, 1] in the models, 0..1 as a tensor for programs."""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_video.errors import UserError

GROUND = 255  # what shows through where a picture is transparent: white, as in browsers


def to_unit(frames: Tensor) -> Tensor:  # uint8 [N, F, H, W, 3] -> float32 [N, 3, F, H, W] in [-1, 1]
    return frames.permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1.0)


def to_display(video: Tensor) -> Tensor:  # [...] in [-1, 1] -> float32 [...] in 0..1, what is beyond is cut off
    return (video.float() / 2 + 0.5).clamp_(0, 1)


def to_bytes(values: Tensor) -> Tensor:  # [...] in 0..1 -> uint8 [...]
    """The nearest of the 256 values (truncation would darken by half a level). UserError where one is not finite."""
    check_finite(values, "the frames")
    return (values * 255).round_().to(torch.uint8)


def to_frames(video: Tensor) -> Tensor:  # [N, 3, F, H, W] in [-1, 1] -> uint8 [N, F, H, W, 3]
    """The video as pictures. UserError where a value is not finite: it would be a black or white point."""
    check_finite(video, "the frames")
    return to_bytes(to_display(video)).permute(0, 2, 3, 4, 1).contiguous()


def check_finite(values: Tensor, what: str, advice: str = "nothing was made of them") -> None:
    """UserError with the first position of NaN or infinity in `values`, if any."""
    finite = values.isfinite()
    if finite.all():
        return
    bad = finite.logical_not()
    place = ", ".join(map(str, bad.nonzero()[0].tolist()))
    raise UserError(
        f"{what} hold NaN or infinity in {int(bad.sum())} of {bad.numel()} values ([{place}] first); {advice}"
    )
