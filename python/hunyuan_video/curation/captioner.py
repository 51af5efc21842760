"""`hunyuan-video curate caption`: the fields that no stage measures, by a vision-language model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hunyuan_video.curation.captions import FIELDS
from hunyuan_video.curation.endpoint import AnswerError, Endpoint
from hunyuan_video.curation.lock import sole_merge
from hunyuan_video.curation.manifest import FILE, read_about, read_rows, write_manifest
from hunyuan_video.curation.packages import cv2
from hunyuan_video.data.curated import curated_clip, source_path
from hunyuan_video.data.skipped import Skipped, counted, printable, write_skipped
from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.files import read_json, write_json
from hunyuan_video.media.read import UnreadableError, read_clip

FOLDER = "captions"
MISSING = "captions_missing.jsonl"
PICTURES, LONGEST = 4, 512  # of a clip, in equal steps; pixels of the longer side
ASKED = tuple(name for name in FIELDS if name != "camera movement")  # that one is measured
LONGEST_FIELD = 2000  # characters
REQUEST = (
    "These pictures are frames of one video clip, in order, in equal steps of time. Describe the clip as one JSON "
    f"object with the keys {', '.join(json.dumps(name) for name in ASKED)}, each a plain English text, and nothing "
    "around it. "
    '"short description": one sentence with the main content. "dense description": three to five sentences with what '
    'happens and changes. "background": the surroundings of the subject. "style": such as documentary, cinematic or '
    'animation. "shot type": such as aerial, close-up, medium or long shot. "lighting" and "atmosphere": a few words. '
    "Leave out a key that the pictures do not tell."
)


@dataclass
class Captioned:
    """Counts of a run."""

    clips: int = 0
    now: int = 0
    before: int = 0
    missing: list[Skipped] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{self.clips} clips: {self.now} captioned now, {self.before} before"
        if self.missing:
            text += f", {len(self.missing)} missing ({counted(self.missing)}; {MISSING} names them)"
        return text


def caption(
    output: Path,
    endpoint: Endpoint,
    tier: str | None = None,
    batch: int = 4,
    report: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Captioned:
    """Asks for the captions that are missing, `batch` clips at a time, and puts them into the manifest.

    tier: only its clips; None for all without a `duplicate_of`. Each caption is a file of its own as soon as it has
    come, so that a killed run goes on; what the model did not answer is reported, listed and asked for by the next run.
    UserError where no request can succeed, after the captions that came are in the manifest.
    """
    if batch < 1:
        raise ArgumentError(f"batch must be at least 1, got {batch}")
    rows = [row for row in read_rows(output / FILE) if _wanted(row, tier)]
    if not rows:
        raise UserError(f"{output / FILE}: no clips to caption" + (f" in tier {tier}" if tier else ""))
    todo = [row for row in rows if caption_of(output, row["clip"], endpoint.model) is None]
    summary = Captioned(len(rows), before=len(rows) - len(todo))
    try:
        for done, (row, problem) in enumerate(_asked(output, endpoint, todo, batch), 1):
            if problem:
                report("no caption: " + printable(f"{row['clip']} of {row['source']}: {problem}"))
                summary.missing.append(Skipped(row["clip"], "without an answer", problem))
            summary.now += not problem
            progress(done, len(todo))
    finally:
        _into_manifest(output)
        write_skipped(output / MISSING, summary.missing)
    return summary


def _wanted(row: Mapping[str, Any], tier: str | None) -> bool:
    return row["duplicate_of"] is None if tier is None else tier in (row["tiers"] or ())


def _asked(
    output: Path, endpoint: Endpoint, rows: Sequence[dict[str, Any]], batch: int
) -> Iterator[tuple[dict[str, Any], str]]:
    """(row, why it has no caption or "") as answers come."""
    waiting = list(reversed(rows))
    pending: dict[Future[str], dict[str, Any]] = {}
    pool = ThreadPoolExecutor(batch)
    try:
        while waiting or pending:
            while waiting and len(pending) < batch:
                row = waiting.pop()
                pending[pool.submit(_one, output, endpoint, row)] = row
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                row = pending.pop(future)
                yield row, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _one(output: Path, endpoint: Endpoint, row: dict[str, Any]) -> str:
    try:
        fields = _fields(endpoint.ask(REQUEST, clip_pictures(row)))
    except (AnswerError, UnreadableError) as error:
        return str(error)
    if not fields:
        return "the answer has none of the fields"
    write_json(output / FOLDER / f"{row['clip']}.json", {"model": endpoint.model, "fields": fields})
    return ""


def _fields(answer: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: answer.get(name) for name in ASKED}
    cleaned = {name: " ".join(text.split())[:LONGEST_FIELD] for name, text in texts.items() if isinstance(text, str)}
    return {name: text for name, text in cleaned.items() if text}


@dataclass(frozen=True)
class _Shape:
    frames: int
    height: int
    width: int


def clip_pictures(row: dict[str, Any]) -> list[bytes]:  # JPEG
    """Pictures of a clip, within its crop. Raises UnreadableError."""
    clip = curated_clip(row, source_path(row), [])
    scale = min(LONGEST / max(clip.height, clip.width), 1.0)
    height, width = max(round(clip.height * scale), 1), max(round(clip.width * scale), 1)
    frames = 1 if row["kind"] == "image" else min(PICTURES, row["end_frame"] - row["start_frame"])
    fps = frames / clip.seconds if clip.seconds > 0 else 1.0
    pictures = read_clip(clip.path, _Shape(frames, height, width), fps, clip.part).numpy()
    return [_jpeg(picture) for picture in pictures]


def _jpeg(picture: np.ndarray) -> bytes:  # uint8 [H, W, 3]
    return bytes(cv2().imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2().IMWRITE_JPEG_QUALITY, 90])[1])


def caption_of(output: Path, clip: str, model: str | None = None) -> dict[str, str] | None:
    """The fields that a model (of this name, None for any) wrote for a clip, None where there are none."""
    path = output / FOLDER / f"{clip}.json"
    if not path.is_file():
        return None
    content = read_json(path, "remove it and caption again")
    if model is not None and content.get("model") != model:
        return None
    return _fields(content.get("fields") or {})


def with_caption(output: Path, row: dict[str, Any]) -> None:
    """Sets a row's caption: what a model wrote, and what only stages tell."""
    written = caption_of(output, row["clip"])
    if written:
        fields = {**json.loads(row["caption"] or "{}"), **written}
        ordered = {name: fields[name] for name in FIELDS if name in fields}
        row["caption"] = json.dumps(ordered, ensure_ascii=False)


def _into_manifest(output: Path) -> None:
    with sole_merge(output):
        rows, about = read_rows(output / FILE), read_about(output / FILE)
        for row in rows:
            with_caption(output, row)
        write_manifest(output, rows, {key: json.dumps(value) for key, value in about.items()})
