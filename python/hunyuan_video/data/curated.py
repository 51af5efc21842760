"""The clips of a curated manifest (docs/curation.md): parts of videos, each with its crop and structured caption."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hunyuan_video.data.captions import compose
from hunyuan_video.data.folder import tidy, unusable
from hunyuan_video.data.skipped import Skipped
from hunyuan_video.errors import UserError
from hunyuan_video.media.read import Part

COLUMNS = ("clip", "source", "root", "kind", "start", "end", "clear_start", "start_frame", "end_frame", "width",
           "height", "crop", "caption", "tiers")  # fmt: skip
FIELD_DROPOUT = 0.3  # of a structured caption's fields in each of its sentences


@dataclass(frozen=True)
class CuratedClip:
    """A clip of a manifest. part: seconds and place in its video; height and width: of the crop."""

    path: Path
    name: str
    part: Part
    seconds: float  # 0 for a picture
    height: int
    width: int
    captions: list[str]


def list_curated(manifest: Path, tier: str | None, captions: int, seed: int) -> tuple[list[CuratedClip], list[Skipped]]:
    """The clips of a tier in the manifest's order, and what is left out. UserError for a tier that is not there.

    captions: how many are made of each structured caption, with fields left out and in random order.
    """
    rows = _rows(manifest)
    tiers = sorted({name for row in rows for name in row["tiers"] or ()})
    if tier is None or tier not in tiers:
        raise UserError(f"{manifest}: say with --tier which clips, one of {', '.join(tiers) or 'none: no clip passed'}")
    clips: list[CuratedClip] = []
    skipped: list[Skipped] = []
    for row in rows:
        if tier not in (row["tiers"] or ()):
            continue
        path = source_path(row)
        if cause := unusable(path):
            skipped.append(Skipped(row["clip"], cause, f"{path}: {cause} (clip {row['clip']})"))
            continue
        sentences = _captions(row, captions, seed)
        if sentences:
            clips.append(curated_clip(row, path, sentences))
        else:
            skipped.append(Skipped(row["clip"], "without a caption"))
    return clips, skipped


def _rows(manifest: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise UserError(f'{manifest}: reading it needs pyarrow: pip install "hunyuan-ext[curate]"') from None
    try:
        return list(parquet.read_table(manifest, columns=list(COLUMNS)).to_pylist())
    except FileNotFoundError:
        raise UserError(f"{manifest}: no such file") from None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{manifest}: not a manifest of curate ({str(error).splitlines()[0]})") from None


def source_path(row: dict[str, Any]) -> Path:
    """The file that a clip of a manifest is a part of."""
    root = Path(row["root"])
    return (root.parent if root.suffix.lower() == ".jsonl" else root) / row["source"]


def curated_clip(row: dict[str, Any], path: Path, captions: list[str]) -> CuratedClip:
    """A row of a manifest as a part of its file, from its first clear frame on."""
    x, y, width, height = row["crop"]
    whole_width, whole_height = row["width"], row["height"]
    crop = (x / whole_width, y / whole_height, width / whole_width, height / whole_height)
    if row["kind"] == "image":
        return CuratedClip(path, row["clip"], Part(crop=crop), 0.0, height, width, captions)
    frames = max(row["end_frame"] - row["start_frame"], 1)
    begin = row["start"] + (row["end"] - row["start"]) * (row["clear_start"] - row["start_frame"]) / frames
    return CuratedClip(path, row["clip"], Part(begin, row["end"], crop), row["end"] - begin, height, width, captions)


def _captions(row: dict[str, Any], count: int, seed: int) -> list[str]:
    try:
        fields = {name: tidy(str(value)) for name, value in json.loads(row["caption"] or "{}").items()}
    except (ValueError, AttributeError):
        return []
    fields = {name: value for name, value in fields.items() if value}
    rng = random.Random(f"{seed}/{row['clip']}")
    return list(dict.fromkeys(compose(fields, rng, FIELD_DROPOUT) for _ in range(count))) if fields else []


def frames_at(clip: CuratedClip, fps: float) -> int:
    """Frames of a clip at a rate, one for a picture."""
    return max(int(clip.seconds * fps + 1e-6), 1)
