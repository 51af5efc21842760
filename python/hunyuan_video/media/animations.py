"""PNG, APNG, GIF and WebP through Pillow, each with the run's metadata inside and lasting as long as the video."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hunyuan_video.errors import UserError
from hunyuan_video.media.timeline import rate

PNG_KEY = "hunyuan-video"
EXIF_DESCRIPTION = 0x010E
TICKS = {".gif": 100, ".webp": 1000, ".apng": 1000}  # of each format's clock in a second
SHORTEST = {".gif": 2, ".webp": 11, ".apng": 11}  # ticks: what is shorter, browsers show for a tenth of a second
LONGEST = {".gif": 65535, ".webp": 2**24 - 1, ".apng": 65535}


def check_rate(ending: str, fps: float) -> None:
    """UserError where a format or its viewers cannot show so many or so few frames a second."""
    if ending not in TICKS:
        return
    most, least = TICKS[ending] / SHORTEST[ending], TICKS[ending] / LONGEST[ending]
    if fps > most:
        nearest = int(most)
        raise UserError(
            f"{ending[1:]}: viewers show at most {nearest} frames per second and slow faster ones down to 10, "
            f"got fps {fps:g}; give fps {nearest}, or write .mp4"
        )
    if fps < least:
        lowest = f"{least * 1.001:.2g}"
        raise UserError(f"{ending[1:]}: a frame lasts at most {1 / least:g} s, got fps {fps:g}; give fps {lowest}")


def delays(ending: str, count: int, fps: float) -> list[int]:
    """Ticks for each of `count` frames: they alternate, so that the whole lasts as long as the video."""
    ends = [int(TICKS[ending] * (i + 1) / rate(fps) + Fraction(1, 2)) for i in range(count)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def write_png(path: Path, image: np.ndarray, comment: str) -> None:  # image: uint8 [H, W, 3]
    Image.fromarray(image).save(path, format="PNG", pnginfo=_png_info(comment))


def write_apng(path: Path, frames: np.ndarray, fps: float, comment: str) -> None:  # frames: uint8 [F, H, W, 3]
    """Endless APNG. Equal neighbors stay frames: Pillow keeps them apart where the kind of blending changes."""
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(
        path, format="PNG", save_all=True, append_images=images[1:], duration=delays(".apng", len(frames), fps), loop=0,
        blend=[i % 2 for i in range(len(frames))], pnginfo=_png_info(comment),
    )  # fmt: skip


def _png_info(comment: str) -> PngInfo:
    info = PngInfo()
    info.add_text(PNG_KEY, comment)
    return info


def write_gif(path: Path, frames: np.ndarray, fps: float, comment: str) -> None:  # frames: uint8 [F, H, W, 3]
    """Endless GIF of 256 colors a frame."""
    images = [Image.fromarray(frame).quantize(256, method=Image.Quantize.MEDIANCUT) for frame in frames]
    _check_held(images, delays(".gif", len(frames), fps))
    images[0].save(
        path, format="GIF", save_all=True, append_images=images[1:], loop=0, comment=comment.encode("ascii"),
        duration=[10 * ticks for ticks in delays(".gif", len(frames), fps)],
    )  # fmt: skip


def _check_held(images: list[Image.Image], ticks: list[int]) -> None:
    """UserError where equal frames, of which Pillow makes one, last longer than a GIF can say."""
    held, before = 0, b""
    for image, length in zip(images, ticks, strict=True):
        pixels = image.convert("RGB").tobytes()
        held, before = (held if pixels == before else 0) + length, pixels
        if held > LONGEST[".gif"]:
            seconds = LONGEST[".gif"] / TICKS[".gif"]
            raise UserError(
                f"gif: a picture lasts at most {seconds:g} s, this one does not change for longer; write .mp4"
            )


def write_webp(path: Path, frames: np.ndarray, fps: float, comment: str) -> None:  # frames: uint8 [F, H, W, 3]
    """Endless lossless WebP; one frame makes a still image."""
    exif = Image.Exif()
    exif[EXIF_DESCRIPTION] = comment
    images = [Image.fromarray(frame) for frame in frames]
    times = delays(".webp", len(frames), fps)
    if len(frames) > 1 and (frames == frames[0]).all():
        path.write_bytes(_webp_of_one_frame(images[0], sum(times), exif.tobytes()))
        return
    images[0].save(
        path, format="WEBP", save_all=True, append_images=images[1:], duration=times, loop=0, lossless=True,
        exif=exif.tobytes(),
    )  # fmt: skip


def _webp_of_one_frame(image: Image.Image, milliseconds: int, exif: bytes) -> bytes:
    """An animation of a single frame: libwebp would make a still image of it, which lasts no time."""
    still = io.BytesIO()
    image.save(still, "WEBP", lossless=True)
    size = [value - 1 for value in image.size]

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    def number(value: int) -> bytes:
        return struct.pack("<I", value)[:3]

    canvas = bytes([0b1010, 0, 0, 0]) + number(size[0]) + number(size[1])  # an animation with EXIF
    place = bytes(6) + number(size[0]) + number(size[1]) + number(min(milliseconds, LONGEST[".webp"])) + b"\0"
    body = chunk(b"VP8X", canvas) + chunk(b"ANIM", bytes(6)) + chunk(b"ANMF", place + still.getvalue()[12:])
    return chunk(b"RIFF", b"WEBP" + body + chunk(b"EXIF", exif))


def read_image_comment(path: Path) -> str | None:
    """The metadata that `write_png`, `write_gif` or `write_webp` put in, None where there are none."""
    with Image.open(path) as image:
        if image.format == "PNG":
            return image.info.get(PNG_KEY)
        if image.format == "GIF":
            comment = image.info.get("comment")
            return comment.decode("ascii", "replace") if comment else None
        return image.getexif().get(EXIF_DESCRIPTION)


def frame_grid(frames: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Frames [F, H, W, 3] side by side on one image, row by row, 2 white pixels apart; columns: about a square."""
    count, height, width, _ = frames.shape
    columns = min(columns or int(np.ceil(np.sqrt(count))), count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, 3), 255, np.uint8)
    for i, frame in enumerate(frames):
        top, left = (i // columns) * (height + 2), (i % columns) * (width + 2)
        sheet[top : top + height, left : left + width] = frame
    return sheet
