"""A data set beside its source: clips that are not encoded yet, and what has changed since."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.record import Record, changes, made_of
from hunyuan_video.data.shards import read_about
from hunyuan_video.data.skipped import some
from hunyuan_video.data.sources import scan
from hunyuan_video.errors import Notice, UserError

AGAIN = "run the same `hunyuan-video encode` again"


def differences(folder: Path, settings: dict[str, Any]) -> list[str]:
    """Lines on shards that are missing, and on how the source differs from what was encoded.

    settings: "source" of dataset.json. A source that is not on this machine, or a toyworld, is not looked at; of files
    whose size and time have not changed only the captions are read.
    """
    try:
        record = Record.read(folder)
    except UserError as error:
        return [str(error)]
    if not record.shards:
        return []
    missing = [name for name, keys in record.shards.items() if _keys(folder / f"{name}.tar") != keys]
    lines = [f"{folder}: {len(missing)} of {len(record.shards)} shards are missing ({some(missing)}); {AGAIN}"]
    lines = lines if missing else []
    name = settings["source"]
    if name.startswith("toyworld:") or not Path(name).exists() or missing:
        return lines
    buckets = [Bucket(*map(int, text.split("x"))) for text in dict.fromkeys(settings["buckets"])]
    arguments = {key: settings[key] for key in ("clips", "captions", "fps", "seed")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # told by encode
            source = scan(name, buckets, known=record.probed, **arguments)
    except UserError as error:
        return [*lines, f"{folder}: its source has changed: {error}; {AGAIN}"]
    text = changes(made_of(folder, record.shards), source.clips)
    return [*lines, f"{folder}: its source has changed: {text}; {AGAIN}"] if text else lines


def _keys(shard: Path) -> list[str]:
    return [key for key, _ in read_about(shard).get("clips", ())] if shard.exists() else []
