"""A .jsonl manifest: one {"path": ..., "caption": ...} a line, paths relative to the manifest."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hunyuan_video.data.folder import Entry, is_partial, tidy, unusable
from hunyuan_video.data.skipped import Skipped
from hunyuan_video.errors import UserError, notify
from hunyuan_video.files import read_list


def list_manifest(manifest: Path) -> tuple[list[Entry], list[Skipped]]:
    """The captioned videos of a manifest in its order, and what is left out. A file that several lines name is one
    clip with the captions of all of them. Raises UserError.
    """
    lines = read_list(manifest, "make it: one JSON object a line with path and caption, see docs/training/data.md")
    entries: dict[str, Entry] = {}
    skipped: list[Skipped] = []
    for number, line in lines:
        written, sentences = _row(manifest, number, line)
        name = _name(manifest.parent, written)
        path = manifest.parent / name
        kept = list(dict.fromkeys(filter(None, map(tidy, sentences))))
        cause = "hidden" if path.name.startswith("._") else "partial download" if is_partial(path.name, path) else ""
        if cause := cause or unusable(path):
            line = f"{path}: no such file" if cause == "missing file" else ""
            skipped.append(Skipped(name, cause, line and f"{line} ({manifest.name}:{number})"))
        elif not kept:
            skipped.append(Skipped(name, "with an empty caption"))
        elif name in entries:
            known = entries[name]
            known.captions[:] = dict.fromkeys([*known.captions, *kept])
            skipped.append(Skipped(name, "named again (its captions joined the first)"))
        else:
            entries[name] = Entry(path, name, kept)
        if kept and not all(map(tidy, sentences)):
            note = f"{manifest}:{number}: an empty caption of {len(sentences)} is passed over"
            notify(note)
    return list(entries.values()), skipped


def _row(manifest: Path, number: int, line: str) -> tuple[str, list[str]]:
    """(path as it is written, captions) of a line."""
    try:
        row: dict[str, Any] = json.loads(line)
        name, sentences = row["path"], row["caption"]
        sentences = sentences if isinstance(sentences, list) else [sentences]
        if not (isinstance(name, str) and name and all(isinstance(sentence, str | None) for sentence in sentences)):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f'{manifest}:{number}: needs "path" and "caption" (a sentence, or a list of them)') from None
    return name, [sentence or "" for sentence in sentences]


def _name(folder: Path, written: str) -> str:
    """The one spelling of a path of a manifest: without "./" and the like; backslashes are those of Windows."""
    if "\\" in written and not (folder / written).exists():
        written = written.replace("\\", "/")
    return os.path.normpath(written)
