"""Sources to curate: folders, files, globs and .jsonl manifests, each video with a key of its own."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from hunyuan_video.data.folder import unusable, walk, why_left_out
from hunyuan_video.data.skipped import Skipped
from hunyuan_video.errors import UserError
from hunyuan_video.files import read_list
from hunyuan_video.fingerprint import values_hash
from hunyuan_video.media.suffixes import SUFFIXES

ENDS = 1 << 16  # bytes at each end of a file that its hash is made of
KEPT = ("license", "caption", "url", "title")  # of a manifest's lines, for the row of every clip


@dataclass(frozen=True)
class SourceFile:
    """A video or picture. name: relative to the source that was given, with slashes."""

    path: Path
    name: str
    root: str  # the source that was given, as it was written
    about: dict[str, str] = field(default_factory=dict)  # of `KEPT`

    @property
    def key(self) -> str:
        """The name of its fragment: the same in every run that names the source like this."""
        return values_hash(self.name, os.path.realpath(self.path))


def list_sources(sources: Iterable[str]) -> tuple[list[SourceFile], list[Skipped]]:
    """The videos and pictures in order of their names, source by source, and what is left out with its reason.

    UserError for a source that is not there.
    """
    files: dict[str, SourceFile] = {}
    skipped: list[Skipped] = []
    for source in sources:
        for path in _expanded(source):
            for file in _files(path, source, skipped):
                real = os.path.realpath(file.path)
                if real in files:
                    skipped.append(Skipped(file.name, "named again"))
                else:
                    files[real] = file
    return list(files.values()), skipped


def _expanded(source: str) -> list[Path]:
    path = Path(source)
    if path.exists() or path.is_symlink():
        return [path]
    matches = sorted(glob.glob(source, recursive=True)) if glob.has_magic(source) else []
    if not matches:
        raise UserError(f"{source}: no such file or folder; give videos, folders of them, a glob or a .jsonl manifest")
    return [Path(match) for match in matches]


def _files(path: Path, source: str, skipped: list[Skipped]) -> Iterator[SourceFile]:
    if path.is_dir():
        for name, file in sorted(walk(path, skipped), key=lambda entry: PurePosixPath(entry[0]).parts):
            if file.suffix.lower() == ".txt":
                continue
            if cause := why_left_out(name, file):
                skipped.append(Skipped(name, cause))
            elif file.suffix.lower() in SUFFIXES:
                yield SourceFile(file, name, str(path))
        return
    if path.suffix.lower() == ".jsonl":
        yield from _manifest(path, skipped)
        return
    if cause := unusable(path):
        skipped.append(Skipped(path.name, cause))
        return
    yield SourceFile(path, path.name, str(path.parent))


def _manifest(manifest: Path, skipped: list[Skipped]) -> Iterator[SourceFile]:
    for number, line in read_list(manifest, "give a folder of videos or a .jsonl manifest"):
        try:
            row: dict[str, Any] = json.loads(line)
            name = os.path.normpath(row["path"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(f'{manifest}:{number}: needs an object with "path"') from None
        path = manifest.parent / name
        if cause := unusable(path):
            skipped.append(Skipped(name, cause, f"{path}: {cause} ({manifest.name}:{number})"))
        else:
            yield SourceFile(path, name, str(manifest), {key: str(row[key]) for key in KEPT if row.get(key)})


def content_hash(path: Path) -> str:
    """16 hex digits over a file's size and both its ends. Raises OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(ENDS)
        file.seek(max(0, size - ENDS))
        digest = hashlib.sha256(f"{size} ".encode() + head + file.read(ENDS))
    return digest.hexdigest()[:16]
