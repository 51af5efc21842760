"""Frames to files by name ending, with the metadata of the run inside, readable back with `read_metadata`.

.mp4 H.264; .gif, .webp and .apng animated; .png one image, or with `contact_sheet` all frames on one; a folder (its
name ends in "/") one PNG per frame. Equal frames and metadata give equal bytes. A file lasts as long as the video.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hunyuan_video.errors import UserError
from hunyuan_video.files import check_folder, check_writable, staged_folder, staged_path

ENDINGS = (".mp4", ".gif", ".webp", ".apng", ".png")
FRAME_FILES = "frame-*.png"
HIGHEST_RATE = 1000
# The least that a file takes, in bytes a pixel of all frames: what compresses better is a still video.
LEAST_BYTES = {".mp4": 1 / 400, ".gif": 1 / 100, ".webp": 1 / 50, ".apng": 1 / 50, ".png": 1 / 50, "/": 1 / 50}


def is_frame_folder(path: str | Path) -> bool:
    """True if an output name asks for a folder of PNG frames."""
    return str(path).endswith("/")


def check_output(
    path: str | Path,
    num_frames: int,
    *,
    contact_sheet: bool = False,
    fps: float | None = None,
    height: int | None = None,
    width: int | None = None,
) -> None:
    """UserError unless a video of num_frames can be written to `path`; call it before the sampling.

    The name, the folder and the encoder are looked at, with fps the rate, with height and width the space on the disk.
    """
    if is_frame_folder(path):
        check_folder(Path(path), FRAME_FILES)
        ending = "/"
    else:
        ending = Path(path).suffix.lower()
        _check_kind(f"output {path}", ending, num_frames, contact_sheet)
        check_writable(path)
    if fps is not None:
        _check_rate(ending, fps)
    if height and width:
        _check_space(Path(path), ending, num_frames * height * width)


def _check_kind(what: str, ending: str, num_frames: int, contact_sheet: bool) -> None:
    if ending not in ENDINGS:
        ending_text = f"ends in {ending}" if ending else "has no ending"
        raise UserError(f"{what} {ending_text}; use one of {', '.join(ENDINGS)} or a folder name ending in /")
    if ending == ".png" and num_frames > 1 and not contact_sheet:
        raise UserError(
            f"{what}: a PNG holds one image and the video has {num_frames} frames; "
            "ask for a contact sheet (--contact-sheet) or give a folder name ending in /"
        )
    if ending == ".mp4":
        from hunyuan_video.media.mp4 import check_encoder

        check_encoder()


def _check_rate(ending: str, fps: float) -> None:
    if not 0 < fps <= HIGHEST_RATE:
        raise UserError(f"fps must be above 0 and at most {HIGHEST_RATE}, got {fps}")
    from hunyuan_video.media.animations import check_rate

    check_rate(ending, fps)


def _check_space(path: Path, ending: str, pixels: int) -> None:
    needed = int(pixels * LEAST_BYTES[ending])
    place = path if path.is_dir() else path.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"cannot write {path}: it takes at least {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free; "
            "choose another place or free some space"
        )


def save_video(
    path: str | Path | BinaryIO,
    frames: np.ndarray,  # uint8 [F, H, W, 3]
    fps: float = 24,
    *,
    metadata: Mapping[str, Any] | None = None,  # JSON types
    contact_sheet: bool = False,
    format: str | None = None,
) -> None:
    """Writes one video (F = 1: an image) to `path`; see the module's text for the endings.

    path: a name, or a file opened for writing bytes. format: "mp4", "gif", "webp", "apng" or "png"; a file object
    needs it, for a name it replaces the ending. H.264 has even sizes: an mp4 of an odd height or width gets one more
    row or column, a copy of its last, and a warning says so.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise UserError(f"frames must be uint8 [F, H, W, 3], got {frames.dtype} {list(frames.shape)}")
    ending = None if format is None else "." + format.lower().removeprefix(".")
    if not isinstance(path, (str, Path)):
        _save_object(path, ending, frames, fps, metadata or {}, contact_sheet)
        return
    if is_frame_folder(path) and ending is None:
        check_output(path, len(frames))
        _save_folder(Path(path), frames, _comment(metadata or {}))
        return
    ending = ending or Path(path).suffix.lower()
    _check_kind(f"output {path}", ending, len(frames), contact_sheet)
    _check_rate(ending, fps)
    check_writable(path)
    with staged_path(Path(path)) as temporary:
        _save_file(temporary, ending, frames, fps, metadata or {}, contact_sheet)


def _save_object(
    file: BinaryIO, ending: str | None, frames: np.ndarray, fps: float, metadata: Mapping, sheet: bool
) -> None:
    """Through a temporary file: an mp4's header is moved to its front at the end."""
    if ending is None:
        raise UserError(f"a file object has no ending; say what to write, for example format='{ENDINGS[0][1:]}'")
    _check_kind("format", ending, len(frames), sheet)
    _check_rate(ending, fps)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"video{ending}"
        _save_file(path, ending, frames, fps, metadata, sheet)
        with path.open("rb") as made:
            shutil.copyfileobj(made, file)


def _comment(metadata: Mapping) -> str:
    return json.dumps(dict(metadata))  # ASCII: GIF and EXIF hold nothing else


def _save_file(path: Path, ending: str, frames: np.ndarray, fps: float, metadata: Mapping, sheet: bool) -> None:
    comment = _comment(metadata)
    if ending == ".mp4":
        from hunyuan_video.media.mp4 import write_mp4

        write_mp4(path, frames, fps, comment, str(metadata.get("prompt", "")))
        return
    from hunyuan_video.media import animations

    if ending == ".gif":
        animations.write_gif(path, frames, fps, comment)
    elif ending == ".webp":
        animations.write_webp(path, frames, fps, comment)
    elif ending == ".apng":
        animations.write_apng(path, frames, fps, comment)
    else:
        animations.write_png(path, animations.frame_grid(frames) if sheet else frames[0], comment)


def _save_folder(folder: Path, frames: np.ndarray, comment: str) -> None:
    from hunyuan_video.media.animations import write_png

    with staged_folder(folder, lambda entry: entry.match(FRAME_FILES)) as temporary:
        for number, frame in enumerate(frames, 1):
            write_png(temporary / f"frame-{number:04d}.png", frame, comment)
