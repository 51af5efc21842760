"""PNG, GIF and WebP through Pillow, each with the run's facts inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

PNG_KEY = "hunyuan-video"
EXIF_DESCRIPTION = 0x010E


def write_png(path: Path, image: np.ndarray, comment: str) -> None:  # image: uint8 [H, W, 3]
    info = PngInfo()
    info.add_text(PNG_KEY, comment)
    Image.fromarray(image).save(path, format="PNG", pnginfo=info)


def write_gif(path: Path, frames: np.ndarray, fps: float, comment: str) -> None:  # frames: uint8 [F, H, W, 3]
    """Endless GIF. Its clock has 10 ms ticks, so frame times alternate such that the whole keeps the rate."""
    ends = [round(100 * (i + 1) / fps) for i in range(len(frames))]
    ticks = [max(end - start, 1) for start, end in zip([0, *ends], ends, strict=False)]
    images = [Image.fromarray(frame).quantize(256, method=Image.Quantize.MEDIANCUT) for frame in frames]
    images[0].save(
        path, format="GIF", save_all=True, append_images=images[1:], duration=[10 * t for t in ticks], loop=0,
        comment=comment.encode("ascii"),
    )  # fmt: skip


def write_webp(path: Path, frames: np.ndarray, fps: float, comment: str) -> None:  # frames: uint8 [F, H, W, 3]
    """Endless lossless WebP; one frame makes a still image."""
    exif = Image.Exif()
    exif[EXIF_DESCRIPTION] = comment
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(
        path, format="WEBP", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0, lossless=True,
        exif=exif.tobytes(),
    )  # fmt: skip


def read_image_comment(path: Path) -> str | None:
    """The facts that `write_png`, `write_gif` or `write_webp` put in, None where there are none."""
    with Image.open(path) as image:
        if image.format == "PNG":
            return image.info.get(PNG_KEY)
        if image.format == "GIF":
            comment = image.info.get("comment")
            return comment.decode("ascii", "replace") if comment else None
        return image.getexif().get(EXIF_DESCRIPTION)


def contact_sheet(frames: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Frames [F, H, W, 3] side by side on one image, row by row, 2 white pixels apart; columns: about a square."""
    count, height, width, _ = frames.shape
    columns = min(columns or int(np.ceil(np.sqrt(count))), count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, 3), 255, np.uint8)
    for i, frame in enumerate(frames):
        top, left = (i // columns) * (height + 2), (i % columns) * (width + 2)
        sheet[top : top + height, left : left + width] = frame
    return sheet
