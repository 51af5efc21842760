"""Videos and pictures from files: what they hold, and clips of them at a frame rate and size.

Images and animations (PNG and APNG, JPEG, GIF, WebP, AVIF, BMP, TIFF) are read by Pillow, all else by FFmpeg; which of
them is decided by a file's first bytes, never by its name.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.errors import UserError, notify
from hunyuan_video.media import images
from hunyuan_video.media.images import Animation, open_animation
from hunyuan_video.media.timeline import Timeline
from hunyuan_video.media.video import Video, open_video


class UnreadableError(UserError, ValueError):
    """A file whose pictures cannot be read, in one line."""


class ClipShape(Protocol):
    """The shape of a clip: what a bucket has."""

    @property
    def frames(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...


@dataclass(frozen=True)
class Part:
    """A part of a video: seconds from its first frame (the end exclusive), and a place as shares of its sides."""

    start: float = 0.0
    end: float | None = None
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)  # x, y, width, height

    def shown(self, timeline: Timeline, fps: float, most: int) -> list[int]:
        """The frames on screen at start, start + 1 / fps, ... as `Timeline.shown`; at most `most`."""
        if self.start == 0.0 and self.end is None:
            return timeline.shown(fps, most)
        unit = timeline.unit
        first = max(bisect_right(timeline.times, round(Fraction(self.start) / unit)) - 1, 0)
        end = timeline.end if self.end is None else min(round(Fraction(self.end) / unit), timeline.end)
        times = tuple(time - timeline.times[first] for time in timeline.times[first:] if time < end)
        return [
            first + number
            for number in replace(timeline, times=times, end=end - timeline.times[first]).shown(fps, most)
        ]

    def cut(self, picture: np.ndarray) -> np.ndarray:  # [H, W, C] -> [h, w, C], a view
        height, width = picture.shape[:2]
        x, y, w, h = self.crop
        left, top = round(x * width), round(y * height)
        return picture[top : max(round((y + h) * height), top + 1), left : max(round((x + w) * width), left + 1)]


@dataclass(frozen=True)
class MediaInfo:
    """Size, rate and length of a video or picture as it is shown."""

    kind: str  # "video", "animation" or "image"
    codec: str
    frames: int  # that are stored and shown
    seconds: float  # 0 for an image
    height: int  # upright and in square pixels
    width: int
    note: str = ""  # what is wrong with it, in words


def probe(path: str | Path) -> MediaInfo:
    """Size, rate and length of a file, which is read whole but not decoded. Raises UnreadableError."""
    media = open_media(Path(path))
    frames = len(media.timeline.times)
    kind = "video" if isinstance(media, Video) else "animation" if frames > 1 else "image"
    seconds = media.timeline.seconds
    return MediaInfo(kind, media.codec, frames, seconds, media.height, media.width, media.missing)


def video_size(path: str | Path, fps: float, most: int | None = None) -> tuple[int, int, int]:
    """(frames at `fps`, height, width) as shown, without decoding more than a frame; at most `most` are counted.

    A Notice tells of a file that is shorter than its header says. Raises UnreadableError.
    """
    media = open_media(Path(path), None if most is None else most / fps)
    if media.missing:
        notify(f"{path}: {media.missing}; what is there is used")
    return len(media.timeline.shown(fps, most)), media.height, media.width


def read_clip(  # uint8 [F, H, W, 3]
    video: str | Path, bucket: ClipShape, fps: float, part: Part | None = None
) -> Tensor:
    """Frames on screen at 0, 1 / fps, 2 / fps, ..., scaled to cover the bucket and cropped in the middle.

    part: the time and place of the video that is read, in place of all of it.

    Raises UnreadableError (a ValueError) if the video cannot be decoded or is too short.
    """
    path = Path(video)
    part = part or Part()
    media = open_media(path, part.start + bucket.frames / fps)
    shown = part.shown(media.timeline, fps, bucket.frames)
    if len(shown) < bucket.frames:
        length = f"{len(shown)} frames at {fps:g} per second, the bucket {bucket} needs {bucket.frames}"
        raise UnreadableError(f"{path}: {length}{'; ' + media.missing if media.missing else ''}")
    frames: list[Tensor] = []
    last: np.ndarray | None = None
    with explained(path):
        for picture, ratio in media.pictures(shown):
            fitted = frames[-1] if picture is last else fit(part.cut(picture), ratio, bucket.height, bucket.width)
            frames.append(fitted)
            last = picture
    return torch.stack(frames)


def fit(
    picture: np.ndarray,  # uint8 [H, W, 3]
    ratio: float,  # of a pixel's width to its height
    height: int,
    width: int,
) -> Tensor:  # uint8 [height, width, 3]
    """The largest part in the middle that has the wanted aspect ratio on screen, resized (bicubic, antialiased)."""
    stored = picture.shape[0], picture.shape[1]
    scale = max(height / stored[0], width / (stored[1] * ratio))
    size = (max(round(stored[0] * scale), height), max(round(stored[1] * ratio * scale), width))
    frame = torch.from_numpy(np.require(picture, requirements=("C", "W"))).permute(2, 0, 1)[None].float()
    resized = F.interpolate(frame, size, mode="bicubic", antialias=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    crop = resized[:, top : top + height, left : left + width]
    return crop.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)


def open_media(path: Path, seconds: float | None = None) -> Video | Animation:
    """A file's times and size, up to `seconds` from its first frame where given. Raises UnreadableError."""
    with explained(path):
        with path.open("rb") as file:
            head = file.read(32)
        if images.is_heic(head):
            raise ValueError("HEIC is not read; save it as JPEG or PNG")
        return open_animation(path) if images.is_image(head) else open_video(path, seconds)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what decoders raise into one line."""
    try:
        yield
    except UnreadableError:
        raise
    except MemoryError as error:
        raise UnreadableError(f"{path}: not enough memory for its pictures") from error
    except Exception as error:  # decoders of damaged files raise anything, IndexError and struct.error for example
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().splitlines()[0]
        raise UnreadableError(f"{path}: not a readable video or picture ({reason})") from error
