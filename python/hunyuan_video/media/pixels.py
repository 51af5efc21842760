"""Ranges of pixel values: bytes on disk and screen, [-1, 1] in the models, 0..1 as a tensor for programs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hunyuan_video.errors import UserError

GROUND = 255  # what shows through where a picture is transparent: white, as in browsers


def to_unit(frames: Tensor) -> Tensor:  # uint8 [N, F, H, W, 3] -> float32 [N, 3, F, H, W] in [-1, 1]
    return frames.permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1.0)


def to_display(video: Tensor) -> Tensor:  # [...] in [-1, 1] -> float32 [...] in 0..1, what is beyond is cut off
    return (video.float() / 2).add_(0.5).clamp_(0, 1)


def to_bytes(values: Tensor) -> Tensor:  # [...] in 0..1 -> uint8 [...]
    """The nearest of the 256 values (truncation would darken by half a level). UserError where one is not finite."""
    check_finite(values, "the frames")
    made = torch.empty(values.shape, dtype=torch.uint8, device=values.device)
    for part, place in zip(_parts(values), _parts(made), strict=True):
        place.copy_((part * 255).round_())
    return made


def to_frames(video: Tensor) -> Tensor:  # [N, 3, F, H, W] in [-1, 1] -> uint8 [N, F, H, W, 3]
    """The video as pictures. UserError where a value is not finite: it would be a black or white point."""
    check_finite(video, "the frames")
    made = torch.empty(video.movedim(1, -1).shape, dtype=torch.uint8, device=video.device)
    for part, place in zip(video.unbind(2), made.unbind(1), strict=True):
        place.copy_((to_display(part) * 255).round_().movedim(1, -1))
    return made


def check_finite(values: Tensor, what: str, advice: str = "nothing was made of them") -> None:
    """UserError with the first position of NaN or infinity in `values`, if any."""
    if all(_all_finite(part) for part in _parts(values)):
        return
    bad = values.isfinite().logical_not()
    place = ", ".join(map(str, bad.nonzero()[0].tolist()))
    raise UserError(
        f"{what} hold NaN or infinity in {int(bad.sum())} of {bad.numel()} values ([{place}] first); {advice}"
    )


def _all_finite(values: Tensor) -> bool:
    """True without NaN and infinity. Their sum tells it in a tenth of the time; only one that is not finite, as of many
    large values in float16, asks each value.
    """
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def _parts(values: Tensor) -> Sequence[Tensor]:
    """Views along the longest dimension, of a few megabytes each: temporaries of a whole video, which is 1.4 GB in
    720p x 129 frames, would need several times its memory."""
    if not values.dim():
        return [values]
    longest = max(range(values.dim()), key=values.shape.__getitem__)
    return values.chunk(max(1, values.numel() >> 20), longest)
