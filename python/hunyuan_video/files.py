"""Files and folders that appear complete or not at all; whether one could be written; text, JSON; `~` in paths."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from hunyuan_video.errors import UserError
from hunyuan_video.writers import sweep, temporary_name

SPACE = "choose another place or free some space"


@contextmanager
def staged_file(path: Path, what: str = "", advice: str = SPACE, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well; otherwise nothing changes.

    what, advice: of the message where it cannot be written, "cannot write {what} {path}: ...; {advice}".
    temporary: its name until then, where a killed process should leave at most one; else a name of this process.
    """
    with staged_path(path, what, advice, temporary) as staged, staged.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def staged_path(path: Path, what: str = "", advice: str = SPACE, temporary: Path | None = None) -> Iterator[Path]:
    """As `staged_file`, for writers that want a name: it has the ending of `path`."""
    with _staged(path, _remove_file, what, advice, temporary) as staged:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield staged
        os.replace(staged, path)


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
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
    old = temporary_name(path, "old")
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Gives a folder that is complete the name `path`, once its entries are on the disk; OSError."""
    _sync(new)
    if path.exists():
        shutil.rmtree(path)
    os.replace(new, path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """A folder's entries reach the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_file(path: Path) -> None:
    if path.is_file():  # also false, without an error, where the parent is no folder
        path.unlink()


@contextmanager
def _staged(
    path: Path,
    discard: Callable[[Path], None],
    what: str = "",
    advice: str = SPACE,
    temporary: Path | None = None,
) -> Iterator[Path]:
    sweep(path.parent)
    temporary = temporary or temporary_name(path)
    try:
        yield temporary
    except OSError as error:
        place = f"{what} {path}".strip()
        raise UserError(f"cannot write {place}: {error.strerror or error}; {advice}") from error
    finally:
        discard(temporary)


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
    probe = temporary_name(path, "probe")
    try:
        probe.touch()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another place") from error
    finally:
        with suppress(OSError):  # a folder that refused the probe refuses this too; the first error counts
            probe.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """A text file as its author meant it: UTF-8, or UTF-16 with its byte-order mark; no marks, line ends "\\n".

    Only CR, LF and CR LF end a line: U+2028, U+0085 and form feeds are characters like any other. Raises OSError, and
    ValueError for bytes that are no text.
    """
    content = path.read_bytes()
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-16" if wide else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not {'UTF-16' if wide else 'UTF-8'} text ({error.reason} at byte {error.start})") from None
    if "\0" in text:
        raise ValueError("not UTF-8 text (it has NUL characters, as UTF-16 without a byte-order mark)")
    text = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    return text.replace("\n\ufeff", "\n")  # files that were joined keep the mark of each


def read_list(path: Path, remedy: str) -> list[tuple[int, str]]:
    """`entry_lines` of a file. remedy: what to do where there is none. UserError where it is missing or no text."""
    return list(entry_lines(_text(path, remedy)))


def _text(path: Path, remedy: str) -> str:
    if not path.exists():
        raise UserError(f"{path}: no such file; {remedy}")
    try:
        return read_text(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as text ({error}); save it as UTF-8") from None


def read_table(path: Path, remedy: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Columns of a CSV with a header, and its rows with the number of the line that each ends on.

    A cell may hold line breaks within quotes. remedy: what to do where there is none. UserError where it is missing, no
    text or no CSV, where two columns have one name, and for a row of more or fewer cells.
    """
    reader = csv.DictReader(io.StringIO(_text(path, remedy), newline=""), strict=True)
    rows = []
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        if len(set(columns)) < len(columns):
            raise UserError(f"{path}: two columns have one name ({', '.join(columns)})")
        reader.fieldnames = columns
        for row in reader:
            if None in row or None in row.values():
                wrong = "more" if None in row else "fewer"
                text = f"{path}: the row that ends on line {reader.line_num} has {wrong} fields than columns"
                raise UserError(f"{text}; rows with more or fewer fields often want their commas quoted")
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: {error}") from None
    return columns, rows


def entry_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of a list in a text file, one entry a line; blank lines and those that begin with # are none."""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def read_json(path: Path, remedy: str = "copy or download it again") -> dict[str, Any]:
    """A JSON object from a file; UserError with the remedy if it is missing or is none."""
    if not path.exists():
        raise UserError(f"{path}: missing; the folder must hold a Hugging Face checkpoint")
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, expected a JSON object; {remedy}")
    return content


def read_optional_json(path: Path, remedy: str) -> dict[str, Any]:
    """As `read_json`, {} where there is no file."""
    return read_json(path, remedy) if path.exists() else {}


def expand(path: str) -> str:
    """A path as a shell would read it: `~` and `~name` at its start, `$NAME` and `${NAME}` anywhere.

    UserError for a person or a variable that is not there: a folder of that very name is hardly meant.
    """

    def value(expanded: re.Match[str]) -> str:
        name = expanded[1] or expanded[2]
        if name not in os.environ:
            raise UserError(f"{path}: the environment variable {name} is not set; set it or write the path out")
        return os.environ[name]

    if "$" in path and not Path(path).exists():
        path = re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, path)
    if not path.startswith("~"):
        return path
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise UserError(f"{path}: there is no home folder of {path.split('/')[0]}; write the path out, or ./ before it")
    return expanded
