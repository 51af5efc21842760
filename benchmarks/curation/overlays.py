"""Clips with things laid over them: subtitles, letterboxes and pillarboxes, logos; and copies of clips."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.curation import media
from benchmarks.curation.cameras import move

SENTENCES = ("Where have you been all day?", "I told you not to come here.", "Three years later", "Nobody knows yet.")


def clips() -> Iterator[tuple[str, np.ndarray]]:  # uint8 [F, H, W, 3]
    """(name, moving clip at 640 x 360 or so) without text, borders and logos."""
    for index, (name, picture) in enumerate(media.photos()):
        camera = ("pan right", "zoom in", "pan up", "around left")[index % 4]
        clip = move(picture, camera, frames=100, phase=index)
        yield name, np.stack([cv2.resize(frame, (640, 360), interpolation=cv2.INTER_CUBIC) for frame in clip[::12]])
    if media.video("bikes"):
        bikes = media.frames("bikes", 640)
        for number, (start, end) in enumerate(((31, 75), (77, 136), (188, 241))):
            yield f"bikes{number}", bikes[start:end:8]


def subtitled(clip: np.ndarray, number: int) -> np.ndarray:
    height, width = clip.shape[1:3]
    font = ImageFont.load_default(size=max(height // 16, 14))
    out = []
    for frame in clip:
        picture = Image.fromarray(frame)
        ImageDraw.Draw(picture).text(
            (width / 2, height * 0.92), SENTENCES[number % len(SENTENCES)], font=font, anchor="mm",
            fill="white", stroke_width=2, stroke_fill="black",
        )  # fmt: skip
        out.append(np.asarray(picture))
    return np.stack(out)


def boxed(clip: np.ndarray, number: int) -> tuple[np.ndarray, tuple[float, float]]:
    """(clip with bars at two sides, (bar's share of the height, of the width))."""
    height, width = clip.shape[1:3]
    bar = (0.06, 0.1, 0.14)[number % 3]
    across = number % 2
    top, left = (0, round(bar * width)) if across else (round(bar * height), 0)
    out = clip.copy()
    if across:
        out[:, :, :left] = out[:, :, width - left :] = 0
    else:
        out[:, :top] = out[:, height - top :] = 0
    return out, (top / height, left / width)


def marked(clip: np.ndarray, number: int) -> tuple[np.ndarray, tuple[float, float]]:
    """(clip with a logo in a corner, the logo's middle as shares of height and width)."""
    height, width = clip.shape[1:3]
    size = height // 9
    top = (round(0.05 * height), round(0.95 * height) - size)[number % 2]
    left = (round(0.04 * width), round(0.96 * width) - 2 * size)[number // 2 % 2]
    out = clip.copy()
    for frame in out:
        cv2.rectangle(frame, (left, top), (left + 2 * size, top + size), (230, 230, 240), 2)
        cv2.circle(frame, (left + size // 2, top + size // 2), size // 3, (250, 60, 40), -1)
        cv2.line(frame, (left + size, top + 6), (left + 2 * size - 6, top + size - 6), (240, 240, 250), 3)
    return out, ((top + size / 2) / height, (left + size) / width)


def copies(clip: np.ndarray, number: int) -> Iterator[tuple[str, np.ndarray]]:
    """(kind, copy): smaller, harder compressed, a little cropped, brighter, every second frame."""
    height, width = clip.shape[1:3]
    yield "smaller", np.stack([cv2.resize(f, (width // 2, height // 2), interpolation=cv2.INTER_AREA) for f in clip])
    quality = [cv2.IMWRITE_JPEG_QUALITY, 25]
    yield "compressed", np.stack([cv2.imdecode(cv2.imencode(".jpg", f, quality)[1], 1) for f in clip])
    y, x = height // 16, width // 16
    yield "cropped", clip[:, y:-y, x:-x]
    yield "brighter", np.clip(clip.astype(np.int16) + 14, 0, 255).astype(np.uint8)
    yield "half", clip[::2]
