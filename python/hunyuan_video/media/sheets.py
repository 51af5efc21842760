"""Contact sheets: a row of frames for each clip, written as PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from hunyuan_video.files import staged_file

FRAMES = 5  # of a clip on a sheet


def moments(clip: Tensor, frames: int = FRAMES) -> Tensor:  # uint8 [F, H, W, 3] -> [at most `frames`, H, W, 3]
    """Evenly spaced frames of a clip, the first and the last among them: all that a sheet need be given."""
    return clip[np.linspace(0, len(clip) - 1, min(frames, len(clip))).round().astype(int).tolist()]


def contact_sheet(
    path: Path, rows: list[Tensor], labels: list[str] | None = None, frames: int = FRAMES, scale: int = 2
) -> None:
    """Each row: `moments` of a clip uint8 [F, H, W, 3], with its label underneath."""
    strips = []
    for index, clip in enumerate(rows):
        strip = np.concatenate(
            [np.pad(frame.numpy(), ((1, 1), (1, 1), (0, 0))) for frame in moments(clip, frames)], axis=1
        )
        size = strip.shape[1] * scale, strip.shape[0] * scale
        picture = Image.fromarray(strip).resize(size, Image.Resampling.NEAREST)
        if labels is not None:
            canvas = Image.new("RGB", (picture.width, picture.height + 14), "white")
            canvas.paste(picture, (0, 0))
            ImageDraw.Draw(canvas).text((2, picture.height + 1), labels[index][: picture.width // 6], fill="black")
            picture = canvas
        strips.append(picture)
    columns = 2 if len(strips) > 8 else 1
    height, width = strips[0].height, strips[0].width
    lines = -(-len(strips) // columns)
    sheet = Image.new("RGB", (width * columns, height * lines), "white")
    for index, picture in enumerate(strips):
        sheet.paste(picture, ((index // lines) * width, (index % lines) * height))
    with staged_file(path) as file:
        sheet.save(file, "PNG")
