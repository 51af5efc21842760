"""Manifest: one row a clip, in Parquet. Fragments: the rows of one source, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hunyuan_video.curation.packages import package
from hunyuan_video.errors import UserError
from hunyuan_video.files import staged_path

FORMAT = "1"  # of a fragment: another one is analyzed again
FOLDER = "fragments"
FILE = "manifest.parquet"

# Columns of a fragment by type; docs/curation.md says what each is.
MEASURED = {
    "clip": "string", "source": "string", "root": "string", "kind": "string", "codec": "string",
    "start_frame": "int64", "end_frame": "int64", "start": "double", "end": "double", "seconds": "double",
    "clear_start": "int64", "width": "int32", "height": "int32", "fps": "double", "crop": "crop",
    "crop_area": "double", "short_side": "int32", "aspect": "double", "border_area": "double", "subtitles": "bool",
    "logo_area": "double", "logo_left": "double", "motion": "double", "motion_peak": "double", "shake": "double",
    "frozen": "double", "sharpness": "double", "laplacian": "double", "brightness": "double", "shadow": "double",
    "burnt": "double", "text_area": "double", "text_left": "double", "text": "string", "aesthetic": "double",
    "technical": "double", "camera": "string", "camera_score": "double", "transition": "double", "caption": "string",
    "license": "string", "url": "string", "title": "string", "source_hash": "string", "source_bytes": "int64",
    "note": "string", "tools": "string",
}  # fmt: skip
ONLY_IN_FRAGMENTS = {"embedding": "binary", "thumbnail": "binary"}
OF_THE_SET = {
    "embedding": "string", "duplicate_of": "string", "duplicate_cosine": "double", "cluster": "int32",
    "weight": "double", "tiers": "words", "refused_by": "string", "refusals": "string",
}  # fmt: skip


def _type(name: str) -> Any:
    arrow = package("pyarrow")
    if name == "crop":
        return arrow.list_(arrow.int32(), 4)
    if name == "words":
        return arrow.list_(arrow.string())
    return getattr(arrow, {"double": "float64", "bool": "bool_"}.get(name, name))()


def _schema(columns: Mapping[str, str]) -> Any:
    return package("pyarrow").schema([(name, _type(kind)) for name, kind in columns.items()])


@dataclass(frozen=True)
class Fragment:
    """The rows of one source. made_of: what tells that the source has changed since; refused: why it has no rows."""

    rows: list[dict[str, Any]]
    made_of: str
    refused: str = ""


def fragment_path(output: Path, key: str) -> Path:
    return output / FOLDER / f"{key}.parquet"


def write_fragment(path: Path, fragment: Fragment) -> None:
    """Raises UserError where it cannot be written."""
    schema = _schema({**MEASURED, **ONLY_IN_FRAGMENTS})
    about = {"format": FORMAT, "made_of": fragment.made_of, "refused": fragment.refused}
    _write(path, fragment.rows, schema.with_metadata(about))


def write_manifest(output: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> None:
    """Replaces OUT/manifest.parquet."""
    _write(output / FILE, rows, _schema({**MEASURED, **OF_THE_SET}).with_metadata(dict(about)))


def _write(path: Path, rows: Sequence[Mapping[str, Any]], schema: Any) -> None:
    arrow, parquet = package("pyarrow"), package("pyarrow.parquet")
    names = [field.name for field in schema]
    table = arrow.Table.from_pylist([{name: row.get(name) for name in names} for row in rows], schema=schema)
    with staged_path(path) as staged:
        parquet.write_table(table, staged, compression="zstd")


def fragment_state(path: Path) -> tuple[str, str] | None:
    """(made_of, refused) of a whole fragment of this format, None where there is none; its rows are not read."""
    if not path.is_file():
        return None
    try:
        about = package("pyarrow.parquet").read_schema(path).metadata or {}
    except (OSError, ValueError):  # damaged: made again
        return None
    if about.get(b"format", b"").decode() != FORMAT:
        return None
    return about[b"made_of"].decode(), about[b"refused"].decode()


def read_rows(path: Path, columns: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a fragment or manifest. UserError where it is missing or damaged."""
    try:
        table = package("pyarrow.parquet").read_table(path, columns=None if columns is None else list(columns))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run hunyuan-video curate first") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); remove it and curate again") from None
    return list(table.to_pylist())


def read_about(path: Path) -> dict[str, Any]:
    """Text that a manifest says of itself: tiers, counts, tools."""
    about = package("pyarrow.parquet").read_schema(path).metadata or {}
    return {key.decode(): json.loads(value) for key, value in about.items() if key != b"ARROW:schema"}
