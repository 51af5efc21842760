"""Videos and pictures from files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class ClipShape(Protocol):
    """The shape of a clip: what a bucket has."""

    @property
    def frames(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...


def video_size(video: Path, fps: float) -> tuple[int, int, int]:
    """(frames at `fps`, height, width) without decoding the whole file."""
    import av

    try:
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or fps)
            if stream.frames:
                seconds = stream.frames / rate
            else:
                seconds = float(container.duration or 0) / 1e6 or 1 / rate
            return max(1, round(seconds * fps)), stream.height, stream.width
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"{video}: not a readable video ({error})") from None


def read_clip(video: Path, bucket: ClipShape, fps: float) -> Tensor:  # uint8 [F, H, W, 3]
    """The first frames of a video at `fps`, scaled to cover the bucket and cropped in the middle.

    Raises ValueError if the video cannot be decoded or is too short.
    """
    import av

    step = Fraction(1) / Fraction(fps).limit_denominator(1000)
    frames: list[Tensor] = []
    try:
        with av.open(str(video)) as container:
            first = None
            for frame in container.decode(video=0):
                time = Fraction(frame.pts or 0) * (frame.time_base or Fraction(0))
                first = time if first is None else first
                while len(frames) < bucket.frames and time - first >= len(frames) * step - step / 10:
                    frames.append(_fit(torch.from_numpy(frame.to_ndarray(format="rgb24")), bucket))
                if len(frames) == bucket.frames:
                    return torch.stack(frames)
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"{video}: not a readable video ({error})") from None
    raise ValueError(f"{video}: {len(frames)} frames at {fps:g} per second, the bucket {bucket} needs {bucket.frames}")


def _fit(frame: Tensor, bucket: ClipShape) -> Tensor:  # uint8 [H, W, 3] -> uint8 [bucket.height, bucket.width, 3]
    height, width = frame.shape[:2]
    scale = max(bucket.height / height, bucket.width / width)
    size = (max(round(height * scale), bucket.height), max(round(width * scale), bucket.width))
    picture = F.interpolate(frame.permute(2, 0, 1)[None].float(), size, mode="bicubic", antialias=True)[0]
    top, left = (size[0] - bucket.height) // 2, (size[1] - bucket.width) // 2
    crop = picture[:, top : top + bucket.height, left : left + bucket.width]
    return crop.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
