"""A study's store from its videos: blinded copies, checks with a known loser, tasks for every rater."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import numpy as np

from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.evaluation.clips import SUITE_FILE, clips_of
from hunyuan_video.evaluation.generation import STUDY_FILE
from hunyuan_video.evaluation.study.assignment import assigned
from hunyuan_video.evaluation.suites import read_suite
from hunyuan_video.files import read_json
from hunyuan_video.media.write import save_video
from hunyuan_video.phases import tell
from hunyuan_video.serving.study.store import StudyStore

BLIND = "blind"  # folder of the copies that are served
BROKEN = "broken"  # the system that loses every check
NOISE = 70.0  # gray levels of a broken video, which also stands still


def begin_study(
    study: Path, store: StudyStore, raters: int, votes: int, checks: int, most: int | None = None, seed: int = 0
) -> None:
    """Fills a new store. Every video is encoded anew in one way: file names, metadata and codecs say nothing.

    votes: raters of each pair. checks: pairs with a known loser for each rater, spread among the others. Raises
    UserError where a system has no video of a prompt.
    """
    suite = read_suite(str(study / SUITE_FILE))
    systems = list(read_json(study / STUDY_FILE, remedy="run eval generate").get("systems", {}))
    if len(systems) < 2:
        raise UserError(f"{study}: {len(systems)} system; a study compares two: run eval generate with another")
    if checks < 0:
        raise ArgumentError(f"--checks must be at least 0, got {checks}")
    rng = np.random.default_rng(seed)
    rows = assigned(len(suite.items), len(systems), raters, votes, rng, most)
    prompts = {item.id: item.prompt for item in suite.items}
    keys = {(name, item.id): secrets.token_urlsafe(16) for name in systems for item in suite.items}
    chosen = [suite.items[i].id for i in rng.permutation(len(suite.items))[: max(checks, 1)]] if checks else []
    keys |= {(BROKEN, name): secrets.token_urlsafe(16) for name in chosen}
    _copy(study, systems, keys, chosen, rng)
    tasks: dict[str, list[tuple[str, str, str, str]]] = {f"rater-{i + 1:02d}": [] for i in range(raters)}
    for rater, prompt, left, right in rows:
        item = suite.items[prompt].id
        pair = keys[systems[left], item], keys[systems[right], item]
        tasks[f"rater-{rater + 1:02d}"].append((prompts[item], *pair, ""))
    for own in tasks.values():
        order = [own[i] for i in rng.permutation(len(own))]
        for number in range(checks):
            name = chosen[number % len(chosen)]
            good, bad = keys[systems[int(rng.integers(len(systems)))], name], keys[BROKEN, name]
            on_left = bool((number + int(rng.integers(2))) % 2)
            task = (prompts[name], good, bad, "left") if on_left else (prompts[name], bad, good, "right")
            order.insert(int(rng.integers(len(order) + 1)), task)
        own[:] = order
    store.fill(((key, item, system) for (system, item), key in keys.items()), tasks)


def still_noise(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # uint8 [F, H, W, 3] -> the same
    """The first frame under noise, standing still."""
    noisy = np.clip(frames[0] + rng.normal(0, NOISE, frames[0].shape), 0, 255).astype(np.uint8)
    return np.repeat(noisy[None], len(frames), 0)


def _copy(
    study: Path, systems: list[str], keys: dict[tuple[str, str], str], broken: list[str], rng: np.random.Generator
) -> None:
    """Blinded copies of all videos, and broken ones of some."""
    folder = study / BLIND
    shutil.rmtree(folder, ignore_errors=True)  # of a start that did not come to its end
    folder.mkdir()
    clips = {name: {clip.id: clip for clip in clips_of(study / name)} for name in systems}
    items = sorted({item for name, item in keys})
    for done, item in enumerate(items, 1):
        if missing := [name for name in systems if item not in clips[name]]:
            raise UserError(f"{study / missing[0]}: no video of prompt {item}; run eval generate to its end")
        for name in systems:
            clip = clips[name][item]
            frames, fps = clip.frames(), clip.rate() or 8
            save_video(folder / f"{keys[name, item]}.mp4", frames, fps)
        if item in broken:  # of the last system's
            save_video(folder / f"{keys[BROKEN, item]}.mp4", still_noise(frames, rng), fps)
        tell("copying", done, len(items))
