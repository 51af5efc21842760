"""Folders of videos: a video for each prompt, its name the prompt's id; and two such folders side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hunyuan_video.checkpoints.layout import checkpoint_folder
from hunyuan_video.checkpoints.pipeline import read_sampling_json
from hunyuan_video.data.toyworld import WORLDS
from hunyuan_video.errors import UserError
from hunyuan_video.evaluation.suites import read_suite
from hunyuan_video.media.metadata import read_metadata
from hunyuan_video.media.read import explained, open_media
from hunyuan_video.media.suffixes import SUFFIXES

SUITE_FILE = "suite.jsonl"  # in a folder of videos or in the one above it
_SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Clip:
    """A video of a folder."""

    id: str  # the file's name without its ending
    path: Path

    def frames(self) -> np.ndarray:  # uint8 [F, H, W, 3], RGB
        """Every frame, as stored. Raises UnreadableError."""
        media = open_media(self.path)
        with explained(self.path):
            return np.stack([frame.picture(None) for frame in media.stream()])

    def rate(self) -> float:
        """Frames a second; 0 for a single picture."""
        timeline = open_media(self.path).timeline
        return len(timeline.times) / timeline.seconds if timeline.seconds > 0 else 0.0

    @cached_property
    def record(self) -> dict[str, Any]:
        """The run that made the video, as `sample` wrote it into the file; {} for others."""
        return read_metadata(self.path)


def clips_of(folder: str | Path) -> list[Clip]:
    """The videos of a folder by their ids, in order. UserError: none, or two of one id."""
    folder = Path(folder)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"cannot read the folder of videos {folder}: {error.strerror}") from None
    clips: dict[str, Clip] = {}
    for name in names:
        path = folder / name
        if name.startswith(".") or path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        if path.stem in clips:
            raise UserError(f"{folder}: {clips[path.stem].path.name} and {name} are two videos of one prompt; keep one")
        clips[path.stem] = Clip(path.stem, path)
    if not clips:
        raise UserError(f"{folder}: no videos ({', '.join(sorted(SUFFIXES)[:4])}, ...)")
    return list(clips.values())


def paired_clips(first: str | Path, second: str | Path) -> list[tuple[Clip, Clip]]:
    """The videos of two folders by prompt. UserError where one has a prompt that the other has not."""
    sides = [{clip.id: clip for clip in clips_of(folder)} for folder in (first, second)]
    for folder, own, other in ((second, sides[1], sides[0]), (first, sides[0], sides[1])):
        if missing := [name for name in other if name not in own]:
            names = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
            count = f"{len(missing)} of {len(other)} videos"
            raise UserError(f"{folder}: {count} of the other folder are missing here ({names}); pairs need both")
    return [(clip, sides[1][name]) for name, clip in sides[0].items()]


def equal_shapes(first: Clip, second: Clip) -> Iterator[np.ndarray]:
    """The frames of both, uint8 [F, H, W, 3] each. UserError where their lengths or sizes differ."""
    frames = [clip.frames() for clip in (first, second)]
    if frames[0].shape != frames[1].shape:
        one, other = (f"{f} frames of {w}x{h}" for f, h, w, _ in (each.shape for each in frames))
        raise UserError(f"{second.path}: {other} against {one} in {first.path}; compare equal lengths and sizes")
    yield from frames


def prompts_of(clips: list[Clip], suite: str | None = None) -> dict[str, str]:
    """id -> prompt: of a suite given, of suite.jsonl in the folder or above it, else as the videos' own records say.

    UserError where a video has no prompt.
    """
    folder = clips[0].path.parent
    files = [place / SUITE_FILE for place in (folder, folder.resolve().parent)]
    source = suite or next((str(file) for file in files if file.is_file()), None)
    known = {item.id: item.prompt for item in read_suite(source).items} if source else {}
    prompts: dict[str, str] = {}
    for clip in clips:
        prompt = known.get(clip.id) or clip.record.get("prompt")
        if not isinstance(prompt, str):
            where = f"{source} has no {clip.id!r}" if source else f"no {SUITE_FILE} here, and no record in the file"
            raise UserError(f"{clip.path}: its prompt is unknown ({where}); name the prompts with --suite FILE")
        prompts[clip.id] = prompt
    return prompts


def world_of_clips(clips: list[Clip], world: str | None = None) -> str:
    """The toyworld by which clips are judged: the one given, or that of the model which their records name.

    UserError where there is none.
    """
    if world is None:
        model: Mapping[str, Any] = {}
        with suppress(UserError):
            model = read_sampling_json(checkpoint_folder(clips[0].record.get("model", "")))
        world = model.get("world")
    if world not in WORLDS:
        raise UserError(
            f"{clips[0].path.parent}: no toyworld is known whose judge could say if these videos follow their prompts; "
            f"give --world {' or '.join(WORLDS)}, or another --measure"
        )
    return world
