"""Sources of clips to encode: the toyworld, a folder of videos with captions, or a JSON-lines manifest."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hunyuan_video.data.buckets import Bucket, nearest
from hunyuan_video.data.folder import Entry, list_folder
from hunyuan_video.data.keys import keys_of
from hunyuan_video.data.manifest import list_manifest
from hunyuan_video.data.skipped import Skipped, counted, some, tell
from hunyuan_video.errors import UserError, notify
from hunyuan_video.fingerprint import file_status, values_hash

if TYPE_CHECKING:
    from torch import Tensor

    from hunyuan_video.data.toyworld.scene import AnyScene
    from hunyuan_video.media.read import Part

BEYOND = "beyond the number of clips asked for"
PROBED = 5  # entries of a file: bytes, time, frames, height, width
ENDS = 1 << 16  # bytes at each end of a file that tell copies from others of the same size


@dataclass(frozen=True)
class Clip:
    """One clip of a source: its captions, and its pixels when asked for."""

    key: str  # unique in the source
    captions: list[str]
    bucket: Bucket
    pixels: Callable[[], Tensor]  # -> uint8 [F, H, W, 3]; raises OSError or ValueError if they cannot be read
    name: str = ""  # of its file in the source
    made_of: str = ""  # hash of what it is made from: file, time, captions, bucket


@dataclass(frozen=True)
class Source:
    """Clips in a fixed order, and what else there is: found = clips + skipped.

    probed: file name -> (bytes, time in ns, frames, height, width), so that unchanged files are not opened again; where
    others have its size also a hash of its ends.
    """

    clips: list[Clip]
    skipped: list[Skipped] = field(default_factory=list)
    probed: dict[str, list[int]] = field(default_factory=dict)


def open_source(
    name: str, buckets: list[Bucket], *, clips: int | None, captions: int, fps: float, seed: int
) -> list[Clip]:
    """The clips of a source, in a fixed order; a Notice says what is left out and why.

    name: "toyworld:WORLD", a folder (videos beside .txt captions of the same name), or a .jsonl manifest with "path"
    and "caption" (a sentence or a list of them). captions: sentences for a toyworld clip. Raises UserError.
    """
    return scan(name, buckets, clips=clips, captions=captions, fps=fps, seed=seed).clips


def scan(
    name: str,
    buckets: list[Bucket],
    *,
    clips: int | None,
    captions: int,
    fps: float,
    seed: int,
    known: Mapping[str, list[int]] | None = None,
    tier: str | None = None,
) -> Source:
    """As `open_source`, with what is left out. known: `Source.probed` of an earlier scan with these buckets and fps.

    tier: of a curated manifest, a .parquet file.
    """
    if Path(name).suffix.lower() == ".parquet":
        return _curated(Path(name), buckets, clips, captions, fps, seed, tier)
    if tier is not None:
        raise UserError(f"{name}: only a curated manifest (.parquet) has tiers; leave --tier out")
    if name.startswith("toyworld:"):
        return Source(_toyworld(name.partition(":")[2], buckets, clips or 512, captions, seed))
    path = Path(name)
    entries, skipped = list_manifest(path) if path.suffix.lower() == ".jsonl" else list_folder(path)
    if not entries and not skipped:
        raise UserError(f"{name}: no captioned videos; put clip.mp4 beside clip.txt, or give a .jsonl manifest")
    if clips is not None:
        skipped += [Skipped(entry.name, BEYOND) for entry in entries[clips:]]
    source = Source([], skipped)
    entries = entries[:clips]
    for key, entry in zip(keys_of(entry.name for entry in entries), entries, strict=True):
        clip = _clip(key, entry, buckets, fps, known or {}, source.probed)
        if isinstance(clip, Clip):
            source.clips.append(clip)
        else:
            source.skipped.append(clip)
    tell(source.skipped)
    if not source.clips:
        raise UserError(f"{name}: {_nothing(source.skipped, fps)}")
    _tell_copies(entries, source.probed)
    return source


def _curated(
    manifest: Path, buckets: list[Bucket], most: int | None, captions: int, fps: float, seed: int, tier: str | None
) -> Source:
    from hunyuan_video.data.curated import frames_at, list_curated

    curated, skipped = list_curated(manifest, tier, captions, seed)
    source = Source([], skipped)
    if most is not None:
        source.skipped.extend(Skipped(clip.name, BEYOND) for clip in curated[most:])
    for clip in curated[:most]:
        bucket = nearest(buckets, frames_at(clip, fps), clip.height, clip.width)
        if bucket is None:
            source.skipped.append(Skipped(clip.name, "too short"))
            continue
        status = file_status(clip.path)
        made_of = values_hash(clip.name, *status, clip.captions, str(bucket), *vars(clip.part).values())
        pixels = partial(_read, clip.path, bucket, fps, clip.part)
        source.clips.append(Clip(clip.name, clip.captions, bucket, pixels, clip.name, made_of))
    tell(source.skipped)
    if not source.clips:
        raise UserError(f"{manifest}: {_nothing(source.skipped, fps)}")
    return source


def _nothing(skipped: list[Skipped], fps: float) -> str:
    """Why nothing is left of a source."""
    skipped = [entry for entry in skipped if entry.cause != BEYOND]
    causes = {entry.cause for entry in skipped}
    if causes == {"too short"}:
        return f"every video is shorter than the shortest bucket at {fps:g} fps"
    what = "read" if causes <= {"unreadable", "empty file"} else "used"
    return f"none of its {len(skipped)} clips can be {what}: {counted(skipped)}"


def _toyworld(world: str, buckets: list[Bucket], count: int, captions: int, seed: int) -> list[Clip]:
    from hunyuan_video.data.toyworld import WORLDS, caption

    if world not in WORLDS:
        raise UserError(f"toyworld {world!r}: the worlds are {', '.join(WORLDS)}")
    rendered = []
    for index in range(count):
        scene = WORLDS[world].scene(index, seed=seed)
        sentences = [caption(scene, rng=random.Random(f"{seed}/{index}/{k}")).text for k in range(captions)]
        bucket = buckets[index % len(buckets)]
        key = f"{index:08d}"
        made_of = values_hash(world, seed, index, sentences, str(bucket))
        rendered.append(Clip(key, sentences, bucket, partial(_rendered, scene, bucket), key, made_of))
    return rendered


def _rendered(scene: AnyScene, bucket: Bucket) -> Tensor:
    from hunyuan_video.data.toyworld import render

    return render([scene], num_frames=bucket.frames, size=(bucket.height, bucket.width))[0]


def _clip(
    key: str,
    entry: Entry,
    buckets: list[Bucket],
    fps: float,
    known: Mapping[str, list[int]],
    probed: dict[str, list[int]],
) -> Clip | Skipped:
    """The clip of an entry, or why there is none. Only files that are not `known` as they are now are opened."""
    try:
        status = [*file_status(entry.path)]
        before = [*known.get(entry.name, ())]
        if before[:2] != status:
            from hunyuan_video.media.read import video_size

            before = [*status, *video_size(entry.path, fps, max(bucket.frames for bucket in buckets))]
        bucket = nearest(buckets, *before[2:PROBED])
    except (OSError, ValueError, ZeroDivisionError) as error:  # a damaged picture may have no width
        reason = f"{entry.path}: it has no width" if isinstance(error, ZeroDivisionError) else str(error)
        return Skipped(entry.name, "unreadable", reason)
    probed[entry.name] = before
    if bucket is None:
        return Skipped(entry.name, "too short")
    made_of = values_hash(entry.name, *status, entry.captions, str(bucket))
    return Clip(key, entry.captions, bucket, partial(_read, entry.path, bucket, fps), entry.name, made_of)


def _read(path: Path, bucket: Bucket, fps: float, part: Part | None = None) -> Tensor:
    """uint8 [F, H, W, 3] of a file, or of a part of it."""
    from hunyuan_video.media.read import read_clip

    return read_clip(path, bucket, fps) if part is None else read_clip(path, bucket, fps, part)


def _tell_copies(entries: Iterable[Entry], probed: dict[str, list[int]]) -> None:
    """A Notice where files are copies of others: whole folders are copied by mistake, and weigh twice then.

    probed: gets a hash for each file that has not one yet and is as long as another; only these are opened.
    """
    sizes: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.name in probed:
            sizes.setdefault(probed[entry.name][0], []).append(entry)
    first: dict[tuple[int, int], str] = {}
    copies = []
    for size, equal in sizes.items():
        for entry in equal if len(equal) > 1 else ():
            seen = probed[entry.name]
            if len(seen) == PROBED:
                seen.append(_ends(entry.path))
            original = first.setdefault((size, seen[PROBED]), entry.name)
            copies += [f"{entry.name} = {original}"] if original != entry.name else []
    if copies:
        count = sum(map(len, sizes.values()))
        text = f"of {count} files {len(copies)} are copies of others, each a clip like any other ({some(copies)})"
        notify(text)


def _ends(path: Path) -> int:
    """A hash of both ends of a file; another for each that cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(ENDS)
            file.seek(max(0, path.stat().st_size - ENDS))
            digest = hashlib.sha256(head + file.read(ENDS))
    except OSError:
        digest = hashlib.sha256(os.fsencode(path))
    return int(digest.hexdigest()[:13], 16)  # a number that JSON holds in every language
