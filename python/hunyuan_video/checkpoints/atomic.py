"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from hunyuan_video.errors import UserError


@contextmanager
def staged_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well; otherwise nothing changes."""
    with staged_path(path) as temporary, temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def staged_path(path: Path) -> Iterator[Path]:
    """As `staged_file`, for writers that want a name: it has the ending of `path`."""
    with _staged(path, _remove_file) as temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)


def write_json(path: Path, content: Any, indent: int = 1) -> None:
    """Replaces `path` by JSON that ends in a newline."""
    with staged_file(path) as file:
        file.write((json.dumps(content, indent=indent) + "\n").encode())


@contextmanager
def staged_folder(path: Path, may_replace: Callable[[Path], bool]) -> Iterator[Path]:
    """An empty folder to fill that takes the place of `path` when the block ends well; otherwise nothing changes.

    may_replace(entry): whether an entry of an existing folder at `path` may vanish with it. UserError before any
    work if one may not, so a checkpoint saved over the wrong folder destroys nothing.
    """
    if path.is_file():
        raise UserError(f"{path} is a file; give a folder to save into")
    foreign = sorted(entry.name for entry in path.iterdir() if not may_replace(entry)) if path.is_dir() else []
    if foreign:
        raise UserError(f"{path} holds other things ({', '.join(foreign[:3])}); save into a new or an empty folder")
    with _staged(path, lambda temporary: shutil.rmtree(temporary, ignore_errors=True)) as temporary:
        temporary.mkdir(parents=True)
        yield temporary
        _swap(temporary, path)


def _swap(new: Path, path: Path) -> None:
    """Directories cannot be replaced in one step, so the old one steps aside first."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_file(path: Path) -> None:
    if path.is_file():  # also false, without an error, where the parent is no folder
        path.unlink()


@contextmanager
def _staged(path: Path, discard: Callable[[Path], None]) -> Iterator[Path]:
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; choose another place or free some space"
        ) from error
    finally:
        discard(temporary)
