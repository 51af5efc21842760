"""Whether a result could be written, asked before the work that makes it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hunyuan_video.errors import UserError


def check_folder(folder: Path, own_files: str) -> None:
    """UserError unless a folder can be made at `folder`, where at most an earlier one with `own_files` (a glob) is."""
    if folder.is_dir():
        others = sorted({entry.name for entry in folder.iterdir()} - {entry.name for entry in folder.glob(own_files)})
        if others:
            raise UserError(f"cannot write {folder}/: it holds other files ({others[0]}); give a new folder name")
    elif folder.exists():
        raise UserError(f"cannot write {folder}/: it is a file; give a new folder name")
    check_writable(folder / "x" if folder.is_dir() else folder)


def check_writable(path: str | Path) -> None:
    """UserError now, rather than after hours of work, if a file at `path` could not be written."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; give a file name, or end it in / for one PNG per frame")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: folder {path.parent} does not exist; create it first")
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"cannot write {path}: the file is read-only; choose another name")
    probe = path.with_name(f".{path.name}.{os.getpid()}.probe")
    try:
        probe.touch()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another place") from error
    finally:
        with suppress(OSError):  # a folder that refused the probe refuses this too; the first error counts
            probe.unlink(missing_ok=True)
