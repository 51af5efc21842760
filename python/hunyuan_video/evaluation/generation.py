"""A study's folder: suite.jsonl, study.json, and for each system a folder with a video of every prompt.

All systems draw a prompt's video from one seed. Videos appear complete or not at all, so a run that was killed goes on
with those that are missing; several processes share the prompts.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.evaluation.clips import SUITE_FILE
from hunyuan_video.evaluation.suites import Item, Suite, read_suite, suite_text
from hunyuan_video.files import read_json, staged_file, staged_path, write_json
from hunyuan_video.media.read import probe
from hunyuan_video.phases import tell
from hunyuan_video.sampling.pipeline import HunyuanVideoPipeline
from hunyuan_video.writers import one_writer

STUDY_FILE = "study.json"
BATCH = 8  # prompts sampled together; no video depends on it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_FIELDS = ("id", "index", "prompt")  # of a pattern


@dataclass(frozen=True)
class System:
    """Something that makes videos: a checkpoint with an adapter and settings, or a folder of videos made elsewhere."""

    name: str
    model: str | None = None
    adapter: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: str | None = None  # of videos made elsewhere
    pattern: str = "{id}.mp4"  # their names, with {id}, {index} (from 0) or {prompt}

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ArgumentError(f"system {self.name!r}: a name is letters, digits, - and _, 40 at most")

    def record(self) -> dict[str, Any]:
        """The makers of the videos, JSON types."""
        if self.folder is not None:
            return {"folder": self.folder, "pattern": self.pattern}
        return {"model": self.model, "adapter": self.adapter, "settings": dict(self.settings)}


def system_of(text: str, settings: Mapping[str, Any]) -> System:
    """NAME=FOLDER[:ADAPTER]. ArgumentError for other words."""
    name, _, rest = text.partition("=")
    if not rest:
        raise ArgumentError(f"--model {text!r}: write NAME=FOLDER or NAME=FOLDER:ADAPTER")
    model, _, adapter = (rest, "", "") if Path(rest).is_dir() else rest.partition(":")
    return System(name, model, adapter or None, settings)


def joined_of(text: str, pattern: str) -> System:
    """NAME=FOLDER of videos made elsewhere. ArgumentError for other words or fields of the pattern."""
    name, _, folder = text.partition("=")
    if not folder:
        raise ArgumentError(f"--join {text!r}: write NAME=FOLDER")
    try:
        pattern.format(**dict.fromkeys(_FIELDS, "0"))
    except (KeyError, IndexError, ValueError):
        raise ArgumentError(f"--pattern {pattern!r}: use {', '.join('{' + name + '}' for name in _FIELDS)}") from None
    return System(name, folder=folder, pattern=pattern)


def begin(study: Path, suite: Suite, systems: list[System]) -> dict[str, Any]:
    """Writes suite.jsonl and study.json, or checks that those there are the same; returns study.json's content.

    UserError where the folder holds another suite, or a system's name stands for something else.
    """
    names = [system.name for system in systems]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ArgumentError(f"two systems are called {twice[0]}; give each its own name")
    with one_writer(study, "begins a study", part="-begin"):
        file = study / SUITE_FILE
        if file.exists() and read_suite(str(file)).items != suite.items:
            raise UserError(f"{study}: holds videos of another suite, or other seeds; choose a new folder")
        known: dict[str, Any] = {"suite": suite.name, "world": suite.world, "systems": {}}
        if (study / STUDY_FILE).exists():
            known = read_json(study / STUDY_FILE, remedy="choose a new folder")
        made = known.get("systems")
        if not isinstance(made, dict):
            raise UserError(f"{study / STUDY_FILE}: no `systems` in it; choose a new folder")
        for system in systems:
            before = made.setdefault(system.name, system.record())
            if before != system.record():
                raise UserError(
                    f"{study}: {system.name} is {json.dumps(before)} there, now {json.dumps(system.record())}; "
                    "give it another name"
                )
        if not file.exists():
            with staged_file(file) as staged:
                staged.write(suite_text(suite).encode())
        write_json(study / STUDY_FILE, known)
    return known


def generate(
    study: Path,
    suite: Suite,
    systems: list[System],
    *,
    part: tuple[int, int] = (0, 1),
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Makes or joins the videos that are missing, and returns how many. part: (i, n), this process's share.

    Raises UserError.
    """
    which, parts = part
    if not 0 <= which < parts:
        raise ArgumentError(f"--part {which}/{parts}: the first number is 0 to {parts - 1}")
    begin(study, suite, systems)
    items = list(enumerate(suite.items))[which::parts]
    total = 0
    for system in systems:
        folder = study / system.name
        with one_writer(folder, "makes videos", part=f"-{which}-of-{parts}"):
            here = {path.stem for path in folder.iterdir() if not path.name.startswith(".")}
            missing = [(number, item) for number, item in items if item.id not in here]
            work = _join if system.folder is not None else _sample
            if missing:
                work(folder, system, missing)
        say(f"{folder}: {len(missing)} made, {len(items) - len(missing)} were there")
        total += len(missing)
    return total


def _join(folder: Path, system: System, missing: list[tuple[int, Item]]) -> None:
    """Copies of the videos of another folder, all of them found and readable before the first is written."""
    assert system.folder is not None
    sources = []
    for number, item in missing:
        name = system.pattern.format(id=item.id, index=number, prompt=item.prompt)
        source = Path(system.folder) / name
        if "/" in name or not source.is_file():
            raise UserError(f"{system.folder}: no video {name!r} of prompt {item.id}; name them with --pattern")
        probe(source)
        sources.append((source, folder / f"{item.id}{source.suffix.lower()}"))
    for done, (source, path) in enumerate(sources, 1):
        with staged_path(path) as staged:
            shutil.copyfile(source, staged)
        tell(f"joining {system.name}", done, len(sources))


def _sample(folder: Path, system: System, missing: list[tuple[int, Item]]) -> None:
    from hunyuan_video.media.write import save_video
    from hunyuan_video.sampling.record import run_record

    assert system.model is not None
    pipe = HunyuanVideoPipeline.from_pretrained(system.model, adapter=system.adapter)
    fps = pipe.defaults.fps
    for start in range(0, len(missing), BATCH):
        items = [item for _, item in missing[start : start + BATCH]]
        prompts = [item.prompt for item in items]
        output = pipe(prompts, seed=[item.seed for item in items], batch_size=len(items), **system.settings)
        for video, item in enumerate(items):
            record = run_record(
                pipe.models, output, video, prompts, fps=fps, model=system.model, options={"adapter": system.adapter}
            )
            save_video(folder / f"{item.id}.mp4", output.frames[video], fps, metadata=record)
        tell(f"sampling {system.name}", start + len(items), len(missing))
