"""Checkpoints from the Hugging Face hub (extra `hub`), or from a server with its interface that $HF_ENDPOINT names.

Files come one after the other; one that was cut off is continued from where it ended. Space is asked before the first.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from hunyuan_video.errors import Print, UserError, notify
from hunyuan_video.files import read_optional_json, write_json

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Not read where the folder has the bfloat16 file, too.
_SECOND_CHOICE = ("*_fp8.pt", "*_fp8_map.pt")
_FIRST_CHOICE = "*_model_states.pt"
_WHOLE, _MAIN = "hunyuan-video.json", "main"


def is_repository(name: str) -> bool:
    """True for OWNER/NAME, as the hub names repositories."""
    return bool(REPOSITORY.fullmatch(name))


def download(
    repository: str,
    folder: str | Path,
    *,
    revision: str | None = None,
    include: Sequence[str] = (),
    report: Print | None = None,
) -> Path:
    """Puts the files of a repository into a folder and returns it; what is there already is not fetched again.

    revision: a branch, tag or commit, default the main branch. include: patterns (fnmatch) of the wanted files' paths,
    default all. report: gets a line for each file. UserError, one line, without the package `huggingface_hub`, offline,
    for a repository, revision or file that is not there or closed to you, and where the disk has too little space.
    """
    folder = Path(folder).expanduser()
    commit, sizes = _listed(repository, revision, include)
    missing = {name: size for name, size in sizes.items() if not _has(folder / name, size)}
    _check_space(folder, sum(missing.values()), f"{repository} needs")
    for number, (name, size) in enumerate(missing.items(), start=1):
        if report is not None:
            report(f"{number}/{len(missing)} {name} ({_bytes(size)})")
        _fetch(repository, name, commit, local_dir=folder)
    return folder


@lru_cache
def cached_repository(repository: str, revision: str | None = None) -> Path:
    """The folder of a repository in the hub's cache, fetched where it is not there; once in a process.

    Of a transformer that is there in bfloat16 and in FP8 the bfloat16 is fetched. Offline, what an earlier call has
    fetched is used, with a Notice. UserError as for `download`.
    """
    cache = Path(_package().constants.HF_HUB_CACHE)
    home = cache / f"models--{repository.replace('/', '--')}"
    whole = read_optional_json(home / _WHOLE, "delete it")  # revision -> commit of which all files were fetched
    try:
        commit, sizes = _listed(repository, revision, ())
    except UserError as error:
        folder = home / "snapshots" / str(whole.get(revision or _MAIN))
        if not folder.is_dir():
            raise
        notify(f"{error}; {folder}, fetched earlier, is used")
        return folder
    if fnmatch.filter(sizes, _FIRST_CHOICE):
        unread = {name for pattern in _SECOND_CHOICE for name in fnmatch.filter(sizes, pattern)}
        sizes = {name: size for name, size in sizes.items() if name not in unread}
    there = home / "snapshots" / commit
    missing = {name: size for name, size in sizes.items() if not _has(there / name, size)}
    if missing:
        total = sum(missing.values())
        _check_space(cache, total, f"{repository} needs")
        text = f"{len(missing)} files of {repository} ({_bytes(total)}) are downloaded into {cache}"
        notify(text)
    for name in missing:
        _fetch(repository, name, commit, cache_dir=cache)
    write_json(home / _WHOLE, {**whole, revision or _MAIN: commit})
    return there


def _package() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.constants
    except ImportError as error:
        raise UserError(
            "downloads need the package huggingface_hub: pip install 'hunyuan-ext[hub]', or get the files otherwise "
            "and give their folder"
        ) from error
    return huggingface_hub


def _listed(repository: str, revision: str | None, include: Sequence[str]) -> tuple[str, dict[str, int]]:
    """(commit, {path: bytes} of the wanted files)."""
    if not is_repository(repository):
        raise UserError(f"{repository!r} is no name of a repository; give OWNER/NAME, as tencent/HunyuanVideo")
    package = _package()
    try:
        info = package.HfApi(endpoint=_endpoint()).repo_info(repository, revision=revision, files_metadata=True)
    except Exception as error:
        raise _explained(error, repository, revision) from error
    sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or ()}
    for name in sizes:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{repository} lists a file outside of its folder ({name!r}); it is not downloaded")
    for pattern in include:
        if not fnmatch.filter(sizes, pattern):
            shown = ", ".join(list(sizes)[:4]) or "none"
            raise UserError(f"{repository} has no file like {pattern!r}; its files are {shown}, ...")
    wanted = {name for pattern in include or ["*"] for name in fnmatch.filter(sizes, pattern)}
    return str(info.sha), {name: size for name, size in sizes.items() if name in wanted}


def _fetch(repository: str, name: str, commit: str, **where: Any) -> None:
    try:
        _package().hf_hub_download(repository, name, revision=commit, endpoint=_endpoint(), **where)
    except Exception as error:
        raise _explained(error, f"{repository}: {name}", None) from error


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _check_space(folder: Path, needed: int, who: str) -> None:
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{who} {_bytes(needed)} in {folder} and {_bytes(free)} are free; free some space, choose another place, "
            "or fewer files (--include)"
        )


def _bytes(count: int) -> str:
    """'25.6 GB', '412 kB'."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


_REASONS = {
    "GatedRepoError": "it is closed until you have accepted its terms on its page: then log in (hf auth login)",
    "RepositoryNotFoundError": "there is no such repository, or it is closed to you (hf auth login)",
    "RevisionNotFoundError": "it has no such revision",
    "EntryNotFoundError": "it has no such file",
    "RemoteEntryNotFoundError": "it has no such file",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set; unset it, or give a folder",
}


def _explained(error: Exception, what: str, revision: str | None) -> UserError:
    """One line for whatever the hub's package or the network below it raises."""
    at = f" at {revision!r}" if revision else ""
    for kind in type(error).__mro__:
        if kind.__name__ in _REASONS:
            return UserError(f"cannot download {what}{at}: {_REASONS[kind.__name__]}")
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    place = _endpoint() or "the hub"
    return UserError(f"cannot download {what}{at} from {place}: {text}; try again: finished files are kept")
