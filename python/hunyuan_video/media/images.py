"""Pictures and animations through Pillow, from files, arrays and PIL, as 8-bit RGB."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.media import gif
from hunyuan_video.media.color import over_ground
from hunyuan_video.media.orientation import EXIF, Orientation
from hunyuan_video.media.stream import StreamedFrame, reduced, resized
from hunyuan_video.media.timeline import Timeline

if TYPE_CHECKING:
    from PIL import Image

ANIMATED = {"GIF": Fraction(1, 100), "WEBP": Fraction(1, 1000), "PNG": Fraction(1, 1000), "AVIF": Fraction(1, 1000)}
FORMATS = (*ANIMATED, "JPEG", "BMP", "TIFF", "PPM")  # MPO, of two pictures, is a kind of JPEG
ORIENTATION = 0x0112  # EXIF's tag
TOO_SHORT, SHOWN_INSTEAD = 10, 100  # milliseconds: browsers show frames of at most 10 for 100
STILL = Timeline((0,), 0, Fraction(1))


@dataclass(frozen=True)
class Animation:
    """An image file, of one frame or several. Nothing of it stays open."""

    path: Path
    timeline: Timeline
    numbers: tuple[int, ...]  # of the frames in the file
    height: int  # on screen
    width: int
    codec: str  # Pillow's name of the format
    missing: str = ""

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[np.ndarray, float]]:
        """Frames by ascending number, each uint8 [H, W, 3] and 1.0, the shape of its pixels."""
        with opened(self.path) as image:
            last: Any = None
            for number in wanted:
                if last is None or last[0] != number:
                    image.seek(self.numbers[number])
                    last = (number, (rgb(image), 1.0))
                yield last[1]

    def stream(self) -> Iterator[StreamedFrame]:
        """Every frame, in order."""
        for number, (picture, _) in enumerate(self.pictures(range(len(self.numbers)))):
            seconds = float(self.timeline.times[number] * self.timeline.unit)
            yield StreamedFrame(number, seconds, partial(_shrunk, picture))


def _shrunk(picture: np.ndarray, longest: int | None) -> np.ndarray:  # uint8 [H, W, 3]
    height, width, _ = picture.shape
    small = longest is None or max(height, width) <= longest
    return picture if small else resized(picture, reduced(height, width, longest or 1))


def open_animation(path: Path) -> Animation:
    """Reads the times of an image file. ValueError or OSError for a damaged one."""
    with opened(path) as image:
        name = str(image.format)
        if name == "TIFF":
            image.load()
        height, width = _orientation(image).size(image.height, image.width)
        if name == "GIF" and not gif.is_whole(path.read_bytes()):
            raise ValueError("the file is cut off")
        count = getattr(image, "n_frames", 1) if name in ANIMATED else 1
        first = 1 if image.info.get("default_image") and count > 1 else 0  # APNG's picture for programs without motion
        image.seek(first)
        if count - first == 1 and not _lasts(image, path):
            return Animation(path, STILL, (first,), height, width, name)
        durations = [_milliseconds(image, number) for number in range(first, count)]
        timeline = Timeline.of_durations(durations, Fraction(1, 1000), ANIMATED[name])
        return Animation(path, timeline, tuple(range(first, count)), height, width, name)


def _lasts(image: Image.Image, path: Path) -> bool:
    """True if an image of one frame is an animation whose equal frames an encoder has merged."""
    if image.format == "WEBP":
        with path.open("rb") as file:
            head = file.read(21)
        if head[12:16] != b"VP8X" or not head[20] & 2:
            return False
        image.load()
    return image.format in ("GIF", "WEBP") and "loop" in image.info and bool(image.info.get("duration"))


def _milliseconds(image: Image.Image, number: int) -> int:
    image.seek(number)
    image.load()
    duration: int = round(image.info.get("duration") or 0)
    return duration if duration > TOO_SHORT else SHOWN_INSTEAD


def is_image(head: bytes) -> bool:
    """True if this module reads a file that begins with `head` (32 bytes), by its signature."""
    return (
        head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"))
        or (head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace())
    )


def is_heic(head: bytes) -> bool:
    """True if a file is a HEIC picture: Pillow has no decoder, and FFmpeg hands out one of its tiles."""
    return head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1")


def opened(path: Path) -> Image.Image:
    from PIL import Image

    return Image.open(path, formats=FORMATS)


def read_image(image: Any) -> Image.Image:
    """An RGB image from a file, a PIL image, or a uint8 array or tensor [H, W, 3].

    A file's orientation is applied, what is transparent is laid on white, 16-bit gray is scaled to 8 bits. UserError
    for a file that cannot be read and for pixels of no known range, ArgumentError for anything else.
    """
    from PIL import Image

    if isinstance(image, (str, Path)):
        try:
            with opened(Path(image)) as file:
                return Image.fromarray(rgb(file))
        except UserError:
            raise
        except Exception as error:  # decoders of damaged files raise anything
            reason = getattr(error, "strerror", None) or "no image format that Pillow reads, or damaged"
            raise UserError(f"cannot read the image {image}: {reason}; give a PNG, JPEG or WebP file") from error
    if isinstance(image, Image.Image):
        return Image.fromarray(rgb(image))
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    if not isinstance(pixels, np.ndarray):
        raise ArgumentError(f"image must be a file, a PIL image, or uint8 [H, W, 3], got {type(image).__name__}")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ArgumentError(f"image must be uint8 [H, W, 3], got {pixels.dtype} {list(pixels.shape)}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def rgb(image: Image.Image) -> np.ndarray:  # uint8 [H, W, 3]
    """A PIL image as it is meant to be seen: upright, in sRGB, on white where it is transparent."""
    image.load()
    return np.ascontiguousarray(_orientation(image).apply(_rgb(image)))


def _orientation(image: Image.Image) -> Orientation:
    """Orientation of a loaded image; Pillow turns TIFF itself while loading, and then says so."""
    return EXIF.get(image.getexif().get(ORIENTATION, 1), EXIF[1])


def _rgb(image: Image.Image) -> np.ndarray:  # uint8 [H, W, 3]
    if image.mode == "F":
        raise UserError("image: floating-point pixels have no known range; give an image of 8 or 16 bits")
    if image.mode.startswith("I"):
        return _deep_gray(np.asarray(image))
    if image.has_transparency_data:
        pixels = np.asarray(_managed(image.convert("RGBA"), "RGBA"))
        return over_ground(pixels[..., :3], pixels[..., 3:])
    return np.asarray(_managed(image, "RGB"))


def _deep_gray(values: np.ndarray) -> np.ndarray:  # [H, W] -> uint8 [H, W, 3]
    """16 bits to 8. Pillow itself cuts off at 255, which leaves white."""
    if values.size and not 0 <= values.min() <= values.max() <= 65535:
        raise UserError("image: pixels of 32 bits have no known range; give an image of 8 or 16 bits")
    gray = (values.astype(np.float64) / 257).round().astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)


def _managed(image: Image.Image, mode: str) -> Image.Image:
    """In sRGB: a picture with another ICC profile (cameras' Display P3, print's CMYK) is converted by it."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert(mode)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image.convert(mode)
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (OSError, ValueError, ImageCms.PyCMSError):  # a profile that is damaged or of other colors than the pixels
        return image.convert(mode)
    return converted or image.convert(mode)


def fit_image(image: Image.Image, height: int, width: int) -> Tensor:  # uint8 [height, width, 3]
    """The largest centered part with the video's aspect ratio, resized (Lanczos); one of that size stays as it is."""
    from PIL import Image, ImageOps

    fitted = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted))
