"""Frames to files by name ending, with the facts of the run inside, readable back with `read_metadata`.

.mp4 H.264; .gif and .webp animated; .png one image, or with `contact_sheet` all frames on one; a folder (its name ends
in "/") one PNG per frame. The same frames and facts give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hunyuan_video.errors import UserError
from hunyuan_video.files import check_folder, check_writable, staged_folder, staged_path

ENDINGS = (".mp4", ".gif", ".webp", ".png")
FRAME_FILES = "frame-*.png"


def is_frame_folder(path: str | Path) -> bool:
    """Whether an output name asks for a folder of PNG frames."""
    return str(path).endswith("/")


def check_output(path: str | Path, num_frames: int, *, contact_sheet: bool = False) -> None:
    """UserError unless a video of num_frames can be written to `path`; call it before the sampling."""
    if is_frame_folder(path):
        check_folder(Path(path), FRAME_FILES)
        return
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        what = f"ends in {ending}" if ending else "has no ending"
        raise UserError(f"output {path} {what}; use one of {', '.join(ENDINGS)} or a folder name ending in /")
    if ending == ".png" and num_frames > 1 and not contact_sheet:
        raise UserError(
            f"output {path}: a PNG holds one image and the video has {num_frames} frames; "
            "ask for a contact sheet (--contact-sheet) or give a folder name ending in /"
        )
    check_writable(path)


def save_video(
    path: str | Path,
    frames: np.ndarray,  # uint8 [F, H, W, 3]
    *,
    fps: float = 24,
    metadata: Mapping[str, Any] | None = None,  # JSON types
    contact_sheet: bool = False,
) -> None:
    """Writes one video (F = 1: an image) to `path`; see the module's text for the endings."""
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise UserError(f"frames must be uint8 [F, H, W, 3], got {frames.dtype} {list(frames.shape)}")
    if not 0 < fps <= 1000:
        raise UserError(f"fps must be above 0 and at most 1000, got {fps}")
    check_output(path, len(frames), contact_sheet=contact_sheet)
    comment = json.dumps(dict(metadata or {}))  # ASCII: GIF and EXIF hold nothing else
    if is_frame_folder(path):
        _save_folder(Path(path), frames, comment)
        return
    with staged_path(Path(path)) as temporary:
        _save_file(temporary, frames, fps, comment, metadata or {}, contact_sheet)


def _save_file(path: Path, frames: np.ndarray, fps: float, comment: str, metadata: Mapping, sheet: bool) -> None:
    ending = path.suffix.lower()
    if ending == ".mp4":
        from hunyuan_video.media.mp4 import write_mp4

        write_mp4(path, frames, fps, comment, str(metadata.get("prompt", "")))
        return
    from hunyuan_video.media import write_images

    if ending == ".gif":
        write_images.write_gif(path, frames, fps, comment)
    elif ending == ".webp":
        write_images.write_webp(path, frames, fps, comment)
    else:
        write_images.write_png(path, write_images.contact_sheet(frames) if sheet else frames[0], comment)


def _save_folder(folder: Path, frames: np.ndarray, comment: str) -> None:
    from hunyuan_video.media.write_images import write_png

    with staged_folder(folder, lambda entry: entry.match(FRAME_FILES)) as temporary:
        for number, frame in enumerate(frames, 1):
            write_png(temporary / f"frame-{number:04d}.png", frame, comment)
