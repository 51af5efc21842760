"""Names of clips in shards: unique in a data set and safe for every reader of tar files.

WebDataset cuts a key at the first dot of the base name, file systems differ in what is an equal name, and `tar x` lets
a later file replace an earlier one: keys have no dots and no slashes, and differ in more than case.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

LONGEST = 200  # bytes of a name that are kept; with the hash and the ending it fits any file system


def keys_of(names: Iterable[str]) -> list[str]:
    """A key for each of some different paths in a source: the path without its ending where that will do.

    A name that must be changed, or is another's already, carries a hash of the whole path.
    """
    taken: set[str] = set()
    keys = []
    for name in names:
        key = _key(name)
        if _spelling(key) in taken:
            key = f"{_readable(name)}-{_hash(name)}"
        while _spelling(key) in taken:  # a file that is named after another's hash
            key += "-" + _hash(key + name)
        taken.add(_spelling(key))
        keys.append(key)
    return keys


def _spelling(key: str) -> str:
    return unicodedata.normalize("NFC", key).casefold()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _readable(name: str) -> str:
    path = PurePosixPath(name)
    stem = str(path.with_suffix("")) if path.suffix and path.name != path.suffix else name
    return re.sub(r"[^\w-]+", "_", stem).encode()[-LONGEST:].decode(errors="ignore").strip("_") or "clip"


def _key(name: str) -> str:
    readable = _readable(name)
    unchanged = readable == name.rpartition(".")[0]
    return readable if unchanged else f"{readable}-{_hash(name)}"
