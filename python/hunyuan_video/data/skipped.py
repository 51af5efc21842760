"""Files that a source holds and a data set does not: each with its cause, told in lines, counted and listed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hunyuan_video.errors import notify
from hunyuan_video.files import staged_file

LINES = 20  # with a reason of their own; skipped.jsonl has them all
NAMES = 5  # in a line that several share


@dataclass(frozen=True)
class Skipped:
    """One file that is left out. detail: a line of its own that names the file, where there is more to say."""

    path: str  # in the source
    cause: str  # in words that a count can stand before: "2 too short"
    detail: str = ""


def tell(skipped: Iterable[Skipped]) -> None:
    """Notices: a line for each file that has something to say of itself, a line for each other cause."""
    skipped = list(skipped)
    lines = [entry.detail for entry in skipped if entry.detail]
    for cause, paths in _by_cause(entry for entry in skipped if not entry.detail).items():
        lines.append(f"{len(paths)} {cause} ({some(paths)})")
    for line in lines[:LINES]:
        notify(f"left out: {printable(line)}")
    if len(lines) > LINES:
        notify(f"left out: {len(lines) - LINES} more, skipped.jsonl names them")


def _by_cause(skipped: Iterable[Skipped]) -> dict[str, list[str]]:
    causes: dict[str, list[str]] = {}
    for entry in skipped:
        causes.setdefault(entry.cause, []).append(entry.path)
    return causes


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return printable(", ".join(names[:NAMES]) + more)


def printable(text: str) -> str:
    """Text for one line of any terminal: file names may hold line breaks and bytes of other encodings."""
    return re.sub(r"[\0-\x1f\x7f-\x9f\u2028\u2029]", "?", text).encode("utf-8", "backslashreplace").decode()


def counted(skipped: Iterable[Skipped]) -> str:
    """As "2 too short, 1 empty caption", the most frequent first; "" for none."""
    causes = Counter(entry.cause for entry in skipped)
    return ", ".join(f"{count} {cause}" for cause, count in causes.most_common())


def write_skipped(path: Path, skipped: Iterable[Skipped]) -> None:
    """One JSON object a line: path, cause and detail. No file where nothing was left out."""
    lines = [json.dumps(vars(entry), ensure_ascii=False) + "\n" for entry in skipped]
    if not lines:
        path.unlink(missing_ok=True)
        return
    with staged_file(path) as file:
        file.write("".join(lines).encode("utf-8", "backslashreplace"))  # names of other encodings as JSON escapes
