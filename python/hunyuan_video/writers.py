"""Processes that write: temporary names that say whose they are, what killed ones left, one writer for a folder.

A writer is known by its process number and a hash of its machine (and container), so that on a disk that several
machines share nobody takes another machine's process for a dead one of his own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hunyuan_video.errors import UserError, notify

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    _fcntl = None  # type: ignore[assignment]
fcntl: Any = _fcntl

LEFT = re.compile(
    r"\.(?P<name>.+)\.(?P<process>\d+)-(?P<machine>[0-9a-f]{8})\.(?P<kind>tmp|old|probe)(?P<suffix>\..+)?"
)
_swept: set[tuple[int, str]] = set()  # (process, folder)


def machine() -> str:
    """8 hex digits for this machine; another for each container with process numbers of its own."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbers = ""
    return f"{zlib.crc32(f'{socket.gethostname()} {numbers}'.encode()):08x}"


def temporary_name(path: Path, kind: str = "tmp") -> Path:
    """A hidden name of this process beside `path`, with its ending. kind: tmp, old (what it replaces) or probe."""
    return path.with_name(f".{path.stem}.{os.getpid()}-{machine()}.{kind}{path.suffix}")


def is_gone(process: int) -> bool:
    """True for the number of a process of this machine that runs no more, and for this process's own."""
    if os.name != "posix":  # elsewhere the question would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's
        return False
    return process == os.getpid()


def sweep(folder: Path) -> None:
    """Removes what processes of this machine that were killed have left in a folder; once for each process.

    A folder that had stepped aside when the kill came gets its name back.
    """
    key = os.getpid(), os.fspath(folder)
    if key in _swept:
        return
    _swept.add(key)
    with suppress(OSError):
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(".")]
        here = machine()
        for name in names:
            left = LEFT.fullmatch(name)
            if left and left["machine"] == here and is_gone(int(left["process"])):
                _remove(folder / name, folder / f"{left['name']}{left['suffix'] or ''}", left["kind"])


def _remove(path: Path, final: Path, kind: str) -> None:
    if kind == "old" and not final.exists():
        os.replace(path, final)
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


LOCK = ".hunyuan-video.lock"


@contextmanager
def one_writer(folder: Path, does: str, *, part: str = "", beside: bool = False) -> Iterator[None]:
    """Nobody else may write into a folder until the block ends; UserError "process N {does} here" otherwise.

    does: as "trains". The lock of a process that was killed is taken over, which a Notice says. part: of the folder,
    where several processes share the work. beside: the lock is next to the folder, which itself is to appear complete;
    otherwise it is in it, and the folder is made, and removed again if nothing else came into it.

    The system's lock (flock) goes with its process, also over NFS and SMB of Linux. Where a disk or system has none,
    the file itself is the lock: one of this machine is taken over when its process is gone, one of another machine
    must be deleted by hand, which the message says.
    """
    lock = folder.with_name(f".{folder.name}{LOCK}") if beside else folder / f"{LOCK}{part}"
    made = _make_folder(lock.parent)
    handle = None
    try:
        handle = _taken(lock, folder, does)
        yield
    finally:
        if handle is not None:
            with suppress(OSError):
                lock.unlink()  # before it is let go: nobody is left with a lock on a file without a name
            os.close(handle)
        for place in made:
            with suppress(OSError):
                place.rmdir()


def _make_folder(folder: Path) -> list[Path]:
    """Makes a folder; it and those above it that were not there."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; choose another place") from error
    return missing


def _taken(lock: Path, folder: Path, does: str) -> int:
    """An open lock file with this process in it."""
    while True:
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(f"cannot write {lock}: {error.strerror}; choose another place") from error
        try:
            free = _flock(handle)
            holder = _holder(handle)
            if free is None:  # no locks on this disk
                free = holder is None or (holder["machine"] == machine() and is_gone(holder["process"]))
            if not free:
                raise UserError(_refusal(lock, folder, holder, does))
            if _is_same(handle, lock):
                if holder is not None:
                    who = f"process {holder['process']}, which {holder.get('does', does)} here, was killed"
                    text = f"{folder}: {who}; this one goes on"
                    notify(text)
                _write(handle, does)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # the one before has just removed the file


def _flock(handle: int) -> bool | None:
    """True: it is ours; False: another's; None: there are no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_same(handle: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(lock))
    except FileNotFoundError:
        return False


def _holder(handle: int) -> dict[str, Any] | None:
    """The content of a lock file: process, machine, host, since, does; None for a new one."""
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        content = json.loads(os.read(handle, 4096))
        return {**content, "process": int(content["process"]), "machine": str(content["machine"])}
    except (ValueError, KeyError, TypeError):
        return None


def _write(handle: int, does: str) -> None:
    content = {"process": os.getpid(), "machine": machine(), "host": socket.gethostname(), "does": does}
    content["since"] = time.strftime("%Y-%m-%d %H:%M:%S")
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(content).encode(), 0)
    os.fsync(handle)


def _refusal(lock: Path, folder: Path, holder: dict[str, Any] | None, does: str) -> str:
    if holder is None:
        return f"{folder}: another process {does} here; wait for it, stop it or choose another output"
    who = f"process {holder['process']} {holder.get('does', does)} here since {holder.get('since', 'a while')}"
    if holder["machine"] == machine():
        return f"{folder}: {who}; wait for it, stop it or choose another output"
    host = f"{folder}: on {holder.get('host', 'another machine')} {who}"
    return f"{host}; wait for it or choose another output; delete {lock} if that process is gone"
