"""Contact sheets: clips as rows of frames, for people to look at."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from hunyuan_video.files import staged_path

_CAPTION_HEIGHT = 14
_COLUMNS = 2
_GAP = 8


def contact_sheet(
    clips: Sequence[Tensor],  # each uint8 [F, H, W, 3], all of one size
    captions: Sequence[str],
    looks: int = 6,
    zoom: int = 1,
) -> Image.Image:
    """`looks` evenly spaced frames of every clip in a row under its caption, two clips side by side."""
    strips = [_strip(clip, looks, zoom) for clip in clips]
    width, height = strips[0].width + _GAP, strips[0].height + _CAPTION_HEIGHT + _GAP
    rows = -(-len(strips) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * width, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (strip, text) in enumerate(zip(strips, captions, strict=True)):
        row, column = divmod(number, _COLUMNS)
        pen.text((column * width + 2, row * height + 1), text[: width // 6], fill="black")
        sheet.paste(strip, (column * width, row * height + _CAPTION_HEIGHT))
    return sheet


def save_sheet(sheet: Image.Image, path: str | os.PathLike) -> None:
    """Writes the picture; the file appears only when it is complete."""
    with staged_path(Path(path)) as part:
        sheet.save(part)


def _strip(clip: Tensor, looks: int, zoom: int) -> Image.Image:
    frames = torch.linspace(0, len(clip) - 1, min(looks, len(clip)), dtype=torch.float32, device="cpu").round().long()
    strip = Image.fromarray(torch.cat(list(clip[frames]), dim=1).numpy())
    return strip.resize((strip.width * zoom, strip.height * zoom), Image.Resampling.NEAREST)
