"""Sources of clips to encode: the toyworld, a folder of videos with captions, or a JSON-lines manifest."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hunyuan_video.data.buckets import Bucket, nearest
from hunyuan_video.data.toyworld import WORLDS, caption, render
from hunyuan_video.data.toyworld.scene import AnyScene
from hunyuan_video.errors import UserError
from hunyuan_video.media.read import SUFFIXES, read_clip, video_size


@dataclass(frozen=True)
class Clip:
    """One clip of a source: its captions, and its pixels when asked for."""

    key: str
    captions: list[str]
    bucket: Bucket
    pixels: Callable[[], Tensor]  # -> uint8 [F, H, W, 3]; raises OSError or ValueError if they cannot be read


def open_source(
    name: str, buckets: list[Bucket], *, clips: int | None, captions: int, fps: float, seed: int
) -> list[Clip]:
    """The clips of a source, in a fixed order.

    name: "toyworld:WORLD", a folder (videos beside .txt captions of the same name), or a .jsonl manifest with "path"
    and "caption" (a sentence or a list of them). captions: sentences for a toyworld clip. Raises UserError.
    """
    if name.startswith("toyworld:"):
        return _toyworld(name.partition(":")[2], buckets, clips or 512, captions, seed)
    path = Path(name)
    entries = _manifest(path) if path.suffix == ".jsonl" else _folder(path)
    if not entries:
        raise UserError(f"{name}: no captioned videos; put clip.mp4 beside clip.txt, or give a .jsonl manifest")
    readable = []
    for video, captions_of in entries[:clips]:
        bucket = _bucket_for(video, buckets, fps)
        if bucket is not None:
            readable.append(Clip(video.stem, captions_of, bucket, _reader(video, bucket, fps)))
    return readable


def _toyworld(world: str, buckets: list[Bucket], count: int, captions: int, seed: int) -> list[Clip]:
    if world not in WORLDS:
        raise UserError(f"toyworld {world!r}: the worlds are {', '.join(WORLDS)}")
    if any(bucket.height != bucket.width for bucket in buckets):
        raise UserError("toyworld clips are square; give buckets like 17x64x64")
    rendered = []
    for index in range(count):
        scene = WORLDS[world].scene(index, seed=seed)
        sentences = [caption(scene, rng=random.Random(f"{seed}/{index}/{k}")).text for k in range(captions)]
        bucket = buckets[index % len(buckets)]
        rendered.append(Clip(f"{index:08d}", sentences, bucket, _renderer(scene, bucket)))
    return rendered


def _renderer(scene: AnyScene, bucket: Bucket) -> Callable[[], Tensor]:
    return lambda: render([scene], num_frames=bucket.frames, size=bucket.width)[0]


def _folder(folder: Path) -> list[tuple[Path, list[str]]]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder or .jsonl manifest; or give toyworld:narrow")
    videos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    captioned = [(video, video.with_suffix(".txt")) for video in videos]
    return [(video, [_text(text).strip()]) for video, text in captioned if text.exists()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); save it as UTF-8 or remove it") from None


def _manifest(path: Path) -> list[tuple[Path, list[str]]]:
    entries = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            sentences = row["caption"]
            sentences = [sentences] if isinstance(sentences, str) else list(sentences)
            if not sentences or not all(isinstance(sentence, str) for sentence in sentences):
                raise ValueError
            entries.append((path.parent / row["path"], sentences))
        except (ValueError, KeyError, TypeError):
            raise UserError(f'{path}:{number}: needs "path" and "caption" (a sentence, or a list of them)') from None
    return entries


def _bucket_for(video: Path, buckets: list[Bucket], fps: float) -> Bucket | None:
    """The bucket of a video; None if it is shorter than all."""
    try:
        return nearest(buckets, *video_size(video, fps, max(bucket.frames for bucket in buckets)))
    except (OSError, ValueError, ZeroDivisionError):  # a damaged picture may have no width
        return buckets[0]  # read again, reported and counted when it is encoded


def _reader(video: Path, bucket: Bucket, fps: float) -> Callable[[], Tensor]:
    return lambda: read_clip(video, bucket, fps)
