"""Tar shards with an index of offsets: plain tar files that any tool reads, with random access and a fixed order.

A shard is `00000.tar` beside `00000.json`, its index. Both appear complete or not at all, the index last, so an
interrupted writer leaves only whole shards and a later one continues after them.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hunyuan_video.errors import UserError
from hunyuan_video.files import staged_file
from hunyuan_video.writers import temporary_name

BLOCK = 512  # of a tar file
CLIP = ".safetensors"  # ending of a clip's name


@dataclass(frozen=True)
class Member:
    """Position of one file in a shard."""

    shard: Path
    name: str
    offset: int  # of its first byte in the tar
    length: int  # bytes
    made_of: str = ""  # hash of its source, where the index says it


AGAIN = "free some space, the same command goes on from there"


class ShardWriter:
    """Writes one shard; use it as a context. Nothing changes if the block fails. UserError if it cannot be written.

    about: what else the index says; to be filled before the block ends.
    """

    def __init__(self, path: Path):
        self.path = path
        self.members: list[dict] = []
        self.about: dict[str, Any] = {}
        hidden = temporary_name(path.with_suffix(""))  # no name that readers of shards look for
        self.staged = staged_file(path, advice=AGAIN, temporary=hidden)

    def __enter__(self) -> ShardWriter:
        self.tar = tarfile.open(fileobj=self.staged.__enter__(), mode="w", format=tarfile.PAX_FORMAT)
        return self

    def add(self, name: str, content: bytes) -> None:
        """One file; owner and time are fixed so that equal content gives equal shards."""
        info = tarfile.TarInfo(name)
        info.size = len(content)
        self.tar.addfile(info, io.BytesIO(content))
        offset = self.tar.offset - -(-len(content) // BLOCK) * BLOCK
        self.members.append({"name": name, "offset": offset, "length": len(content)})

    def __exit__(self, kind: type[BaseException] | None, *raised: Any) -> None:
        if kind is not None:
            self.staged.__exit__(kind, *raised)
            return
        with contextlib.ExitStack() as stack:
            stack.push(self.staged)
            self.tar.close()
            index_path(self.path).unlink(missing_ok=True)  # of an earlier shard, which is now replaced
        with staged_file(index_path(self.path), advice=AGAIN) as file:
            file.write(json.dumps({"members": self.members, **self.about}).encode())


def index_path(shard: Path) -> Path:
    return shard.with_suffix(".json")


def is_complete(shard: Path) -> bool:
    """The index is written last, so a shard with an index is whole."""
    return shard.exists() and index_path(shard).exists()


def read_about(shard: Path) -> dict[str, Any]:
    """Content of a shard's index; {} where there is none or it is damaged."""
    try:
        about = json.loads(index_path(shard).read_text())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def read_index(shard: Path) -> list[Member]:
    """The clips of a shard in order; of one without its index, those that the tar itself lists.

    Raises UserError if the index is damaged or does not fit the tar.
    """
    if not index_path(shard).exists():
        return _listed(shard)
    try:
        content = json.loads(index_path(shard).read_text())
        made_of = {f"{key}{CLIP}": str(made) for key, made in content.get("clips", ())}
        members = [
            Member(shard, str(m["name"]), int(m["offset"]), int(m["length"]), made_of.get(m["name"], ""))
            for m in content["members"]
        ]
        size = shard.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index_path(shard)}: not the index of a shard ({error}); encode the data again") from None
    if any(m.offset < 0 or m.length < 0 or m.offset + m.length > size for m in members):
        raise UserError(f"{shard}: shorter than its index says; it was cut off, encode it again")
    return members


def _listed(shard: Path) -> list[Member]:
    """The clips of a tar that others have packed: any folders before their names, no hidden files and no links."""
    try:
        with tarfile.open(shard) as tar:
            files = [info for info in tar if info.isreg() and not info.name.rpartition("/")[2].startswith(".")]
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UserError(f"{shard}: not a whole tar file ({error}); encode the data again") from None
    clips = {
        info.name.removeprefix("./"): info for info in files if info.name.lower().endswith(CLIP)
    }  # the last counts
    return [Member(shard, name, info.offset_data, info.size) for name, info in clips.items()]


def read_member(member: Member) -> bytes:
    """The bytes of one file. Raises OSError, or EOFError if the shard has been cut off since its index was read."""
    with open(member.shard, "rb") as file:
        file.seek(member.offset)
        content = file.read(member.length)
    if len(content) != member.length:
        raise EOFError(f"{member.shard}: {member.name} is cut off")
    return content
