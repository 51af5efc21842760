"""A data set's own account: `dataset.json`, and its record, `sources.json`.

The record says which clips lie in which shard, and what is known of the files that were looked at.
It is made from the source alone, so every process and machine that fills a data set has the same one. When the
source has changed, clips keep their places: only shards with new, edited or removed clips are written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hunyuan_video.data.shards import is_complete, read_about, read_index
from hunyuan_video.data.skipped import Skipped, some
from hunyuan_video.data.sources import Clip
from hunyuan_video.errors import UserError
from hunyuan_video.files import write_json

FILE = "sources.json"
# 2: hashes cover the VAE's configuration and the tokenizers, shards say what they were made of.
# Data sets of format 1 are read, with their own hashes, but not continued.
FORMAT = 2
READABLE = (1, FORMAT)


def read_description(path: Path) -> dict[str, Any]:
    """A data set's dataset.json. Raises OSError, or ValueError where it is damaged."""
    description = json.loads(path.read_text())
    if not isinstance(description, dict) or not {"format", "vae", "text", "text_length", "source"} <= set(description):
        raise ValueError(f"{path.name} is damaged")
    if description["format"] not in READABLE:
        readable = " and ".join(map(str, READABLE))
        raise ValueError(f"{path.name} has format {description['format']!r}, this version reads {readable}")
    return description


@dataclass
class Record:
    """shards: "5x64x64/00000" -> keys of its clips. probed: see `data.sources.Source`. encoders: `folder_hash` of the
    checkpoint that the data set's hashes were last compared with.
    """

    shards: dict[str, list[str]] = field(default_factory=dict)
    probed: dict[str, list[int]] = field(default_factory=dict)
    encoders: str = ""

    @classmethod
    def read(cls, folder: Path) -> Record:
        """An empty one where there is none. UserError if it is damaged."""
        path = folder / FILE
        try:
            content = json.loads(path.read_text())
            return cls(dict(content["shards"]), dict(content["probed"]), str(content["encoders"]))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: damaged ({error}); remove it, and encode the changed shards again") from None

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, vars(self), indent=None)


def deal(known: dict[str, list[str]], clips: Iterable[Clip], buckets: Iterable[str], size: int) -> dict[str, list[str]]:
    """Shards of at most `size` clips: those of `known` without what is gone, then new clips in order."""
    shards: dict[str, list[str]] = {}
    by_bucket: dict[str, dict[str, None]] = {bucket: {} for bucket in buckets}
    for clip in clips:
        by_bucket[str(clip.bucket)][clip.key] = None
    for bucket, new in by_bucket.items():
        number, last = -1, ""
        for shard in sorted(name for name in known if name.startswith(f"{bucket}/")):
            number = max(number, int(shard.rpartition("/")[2]))
            if kept := [key for key in known[shard] if key in new]:
                shards[last := shard] = kept
                for key in kept:
                    del new[key]
        rest = list(new)
        if last:
            room = size - len(shards[last])
            shards[last] += rest[:room]
            rest = rest[room:]
        for start in range(0, len(rest), size):
            number += 1
            shards[f"{bucket}/{number:05d}"] = rest[start : start + size]
    return shards


def shard_about(clips: Iterable[Clip]) -> list[list[str]]:
    """A shard's index says that it was made of this: key and hash of each clip, in order."""
    return [[clip.key, clip.made_of] for clip in clips]


def is_current(shard: Path, clips: list[Clip]) -> bool:
    """True for a whole shard that was made of just these clips."""
    if not is_complete(shard) or read_about(shard).get("clips") != shard_about(clips):
        return False
    try:
        read_index(shard)
    except UserError:  # cut off
        return False
    return True


def left_out_of(shard: Path) -> list[Skipped]:
    """The clips that could not be encoded when a shard was written."""
    return [Skipped(*entry) for entry in read_about(shard).get("left_out", {}).values()]


def remove_strangers(folder: Path, shards: Iterable[str]) -> None:
    """Deletes shards that the source has no clips for, with their indices.

    A tar without an index of ours is somebody else's and stays.
    """
    expected = {folder / f"{shard}.tar" for shard in shards}
    for path in sorted(folder.glob("*x*x*/[0-9]*.tar")):
        if path not in expected and "members" in read_about(path):
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()


def made_of(folder: Path, shards: Iterable[str]) -> dict[str, str]:
    """Key -> hash of every clip that whole shards say they were made of."""
    paths = [folder / f"{shard}.tar" for shard in shards]
    return {key: made for path in paths if is_complete(path) for key, made in read_about(path).get("clips", ())}


def changes(before: dict[str, str], clips: Iterable[Clip]) -> str:
    """Differences between clips and those that shards were made of (`made_of`), by name; "" where there are none."""
    now = {clip.key: clip.made_of for clip in clips}
    kinds = {
        "new": [key for key in now if key not in before],
        "edited": [key for key in now if key in before and before[key] != now[key]],
        "removed": [key for key in before if key not in now],
    }
    return "; ".join(f"{len(keys)} {what} ({some(keys)})" for what, keys in kinds.items() if keys)
