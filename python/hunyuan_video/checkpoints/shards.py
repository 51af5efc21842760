"""Weights in several files with an index, and folders that hold a whole file beside such an index.

Saving a model again in the other way leaves the older files where they are. transformers then reads the whole file,
diffusers follows the index; a sharded model is to both the list of the index's files, in the order of their names, and
of a tensor that stands in two of them the later one.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hunyuan_video.checkpoints.safetensors_file import SafetensorsFile
from hunyuan_video.checkpoints.sources import ShardedSource
from hunyuan_video.errors import UserError, notify
from hunyuan_video.files import read_text

INDEX = ".safetensors.index.json"
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")


def open_shards(index: Path) -> ShardedSource:
    """The tensors of all files of an index. UserError, naming file and key, where one is missing."""
    weight_map = _weight_map(index)
    parts: dict[str, SafetensorsFile] = {}
    twice: list[str] = []
    for name in sorted(set(weight_map.values())):
        if not (index.parent / name).is_file():
            raise UserError(f"{index} names the shard {name}, which is missing; copy or download it again")
        file = SafetensorsFile(index.parent / name)
        twice += [key for key in file.infos if key in parts]
        parts |= dict.fromkeys(file.infos, file)
    for key, name in weight_map.items():
        if key not in parts:
            raise UserError(f"{index} says that {name} holds the key '{key}', but it does not; copy both again")
    if twice:
        notify(
            f"{index.parent}: {len(twice)} tensors ({twice[0]}, ...) are in two shards; the later shard's are used, as "
            "diffusers and transformers do"
        )
    return ShardedSource(parts)


def whole_or_shards(index: Path, whole: Path, prefer_whole: bool) -> Path:
    """Which of an index and a whole file that lie side by side to read; a notice names the one that is not read.

    prefer_whole: what the library of the part does where both are complete.
    """
    if is_complete(index):
        chosen, other = (whole, index) if prefer_whole else (index, whole)
        library = "transformers" if prefer_whole else "diffusers"
        text = f"{chosen.parent}: {chosen.name} is read, as {library} does, and not {other.name}; remove the older one"
    else:
        chosen = whole
        text = f"{whole.parent}: {index.name} is a leftover without its shards; {whole.name} is read"
    notify(text)
    return chosen


def whole_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder that are no shards."""
    return sorted(file for file in folder.glob("*.safetensors") if file.is_file() and not _SHARD.search(file.name))


def is_complete(index: Path) -> bool:
    """True if an index can be read and all of its files are there."""
    try:
        return all((index.parent / name).is_file() for name in _weight_map(index).values())
    except UserError:
        return False


def _weight_map(index: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(read_text(index))
    except OSError as error:
        raise UserError(f"cannot read {index}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{index} is not valid JSON ({error}); copy or download it again") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(map(_is_file_name, weight_map.values())):
        raise UserError(f"{index} is no index of safetensors shards: it has no 'weight_map' from keys to file names")
    return weight_map


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and Path(value).name == value
