"""Videos and captions in a folder as it lies on a disk: links, hidden and partial files, captions of all spellings.

Every video, picture and caption ends as an entry or as skipped with its cause. Other files are none of our business.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hunyuan_video.data.skipped import Skipped
from hunyuan_video.errors import UserError
from hunyuan_video.files import read_text
from hunyuan_video.media.suffixes import SUFFIXES

CAPTION = ".txt"
# Folders that systems and servers make; a name that begins with a dot is hidden, too.
SYSTEM_FOLDERS = frozenset(
    {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)
ARIA2 = ".aria2"  # beside a file that this program has not finished
PARTIAL = frozenset(
    ".part .partial .tmp .temp .crdownload .download .opdownload .filepart .!qb .!ut .bc! .td .xltd .ytdl .unfinished "
    ".incomplete .downloading".split()
)
FRAGMENT = re.compile(r"\.part-?(frag)?\d+")  # of a file that comes in pieces
BLANK = frozenset("\u2800\u3164\u115f\u1160\uffa0")  # letters and symbols without a picture


@dataclass(frozen=True)
class Entry:
    """A video or picture with its captions. name: in the source, parts with a slash between."""

    path: Path
    name: str
    captions: list[str]


def tidy(caption: str) -> str:
    """A caption without white space around it and at the end of its lines; "" if it has nothing but punctuation and
    what cannot be seen.
    """
    whole = caption.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # JSON may hold halves of letters
    text = "\n".join(line.rstrip() for line in whole.replace("\r\n", "\n").strip("\ufeff").split("\n")).strip()
    return text if any(unicodedata.category(letter)[0] in "LNS" and letter not in BLANK for letter in text) else ""


def list_folder(folder: Path) -> tuple[list[Entry], list[Skipped]]:
    """The captioned videos below a folder in order of their names, and what is left out. Raises UserError."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder or .jsonl manifest; or give toyworld:narrow")
    skipped: list[Skipped] = []
    left_out: set[str] = set()  # spellings that their captions have
    videos: list[tuple[str, Path]] = []
    captions: dict[str, tuple[str, Path]] = {}
    for name, path in sorted(walk(folder, skipped), key=lambda file: PurePosixPath(file[0]).parts):
        suffix = path.suffix.lower()
        if cause := why_left_out(name, path):
            skipped.append(Skipped(name, cause))
            left_out |= _caption_spellings(name)
        elif suffix in SUFFIXES:
            videos.append((name, path))
        elif suffix == CAPTION and captions.setdefault(_spelling(name[: -len(suffix)]), (name, path))[0] != name:
            skipped.append(Skipped(name, "second caption of a video"))
    entries: list[Entry] = []
    used: set[str] = set()
    for name, path in videos:
        spellings = (_spelling(name), _spelling(name[: -len(path.suffix)]))  # of clip.mp4.txt, else of clip.txt
        captioned = next((captions[spelling] for spelling in spellings if spelling in captions), None)
        if captioned is None:
            skipped.append(Skipped(name, "without a caption"))
            continue
        used.add(captioned[0])
        entry = _captioned(path, name, captioned[1])
        if isinstance(entry, Entry):
            entries.append(entry)
        else:
            skipped.append(entry)
    alone = [name for spelling, (name, _) in captions.items() if name not in used and spelling not in left_out]
    skipped += [Skipped(name, "caption without a video") for name in alone]
    return entries, skipped


def _caption_spellings(name: str) -> set[str]:
    """Names that a video's caption may have before .txt, also of one with a further ending, as clip.mp4.part."""
    folder, _, base = name.rpartition("/")
    parts = base.split(".")
    return {
        _spelling(f"{folder}/{'.'.join(parts[:count])}".lstrip("/"))
        for count in range(max(1, len(parts) - 2), len(parts) + 1)
    }


def _captioned(path: Path, name: str, caption: Path) -> Entry | Skipped:
    try:
        text = tidy(read_text(caption))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        line = f"{path}: its caption {caption.name} cannot be read as text ({reason}); save it as UTF-8"
        return Skipped(name, "unreadable caption", line)
    return Entry(path, name, [text]) if text else Skipped(name, "with an empty caption")


def _spelling(name: str) -> str:
    """The composed one of two spellings of a name (composed letters, and letters with accents after them)."""
    return unicodedata.normalize("NFC", name)


def why_left_out(name: str, path: Path) -> str:
    """Why a video, picture or caption is no part of a source, in words; "" for one that is, and for other files."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [ARIA2] or not any(suffix in SUFFIXES or suffix == CAPTION for suffix in suffixes):
        return ""
    if any(part.startswith(".") or part in SYSTEM_FOLDERS for part in PurePosixPath(name).parts):
        return "hidden"
    if is_partial(name, path):
        return "partial download"
    if suffixes[-1] != CAPTION and suffixes[-1] not in SUFFIXES:
        return ""
    return unusable(path)


def is_partial(name: str, path: Path) -> bool:
    """True for a file that another program has not finished: by its ending, its folder's or a file beside it."""
    for part in PurePosixPath(name).parts:
        suffixes = [suffix.lower() for suffix in PurePosixPath(part).suffixes]
        if part != path.name and not any(suffix in SUFFIXES for suffix in suffixes[:-1]):
            continue  # a folder is a download where it is named after its video
        if any(suffix in PARTIAL or FRAGMENT.fullmatch(suffix) for suffix in suffixes[-2:]):
            return True
    return os.path.exists(f"{path}{ARIA2}")  # False, too, for a name that no file can have


def unusable(path: Path) -> str:
    """Why a file cannot be opened, in words; "" for one that can."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return "broken link" if os.path.islink(path) else "missing file"
    if not stat.S_ISREG(status.st_mode):
        return "not a file"
    return "empty file" if status.st_size == 0 and path.suffix.lower() != CAPTION else ""


def walk(folder: Path, skipped: list[Skipped]) -> Iterator[tuple[str, Path]]:
    """(name, path) of everything below that is no folder. Each folder is entered once, by a link only where no
    other way leads to it.
    """
    seen: set[tuple[int, int]] = set()
    waiting, links = [("", folder)], list[tuple[str, Path]]()
    while waiting or links:
        prefix, place = waiting.pop() if waiting else links.pop(0)
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            inside = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            skipped.append(Skipped(prefix, "unreadable folder", f"{place}: {error.strerror}"))
            continue
        for entry in inside:
            name, path = prefix + entry.name, place / entry.name
            if not _is_folder(entry):
                yield name, path
            elif entry.is_symlink():
                links.append((f"{name}/", path))
            else:
                waiting.append((f"{name}/", path))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
