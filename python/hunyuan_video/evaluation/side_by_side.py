"""Two checkpoints on the prompts that both of their worlds know, in the columns that both have.

Each draws the prompt in the look of its own world, and the judge of that world says what its clip shows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from hunyuan_video.data.toyworld import WORLDS, hits, judge_clip
from hunyuan_video.data.toyworld.known import known_words, prompt_notes
from hunyuan_video.data.toyworld.parsing import parse as parse_narrow
from hunyuan_video.data.toyworld.scene import AnyWorld
from hunyuan_video.data.toyworld.wide.parsing import ThingAsked
from hunyuan_video.data.toyworld.wide.parsing import parse as parse_wide
from hunyuan_video.data.toyworld.wide.scene import WideWorld
from hunyuan_video.errors import UserError
from hunyuan_video.evaluation.prompt_following import attributes, complete_caption, paired_difference

COLUMNS = ("color", "shape", "motion", "direction", "camera", "camera_moving", "all")
_TRIES = 200  # scenes looked at for each prompt that is wanted


class Contender(NamedTuple):
    """A checkpoint: its name, its world's, what it was trained on, and how it makes clips of prompts."""

    name: str
    world: str
    trained_on: Mapping[str, int] | None
    generate: Callable[[list[str], int], Tensor]  # (prompts, first seed) -> uint8 [N, F, H, W, 3]


def shared_prompts(first: Contender, second: Contender, count: int, seed: int) -> list[str]:
    """Captions of the smaller world that both know, of combinations that the training on it never showed.

    Raises UserError where the worlds have hardly a prompt in common.
    """
    smaller = min((first, second), key=lambda side: len(known_words(WORLDS[side.world])))
    worlds = [WORLDS[side.world] for side in (first, second)]
    drawn, seen = WORLDS[smaller.world], set()
    if smaller.trained_on is not None:
        shown = smaller.trained_on
        seen = {attributes(drawn.scene(i, seed=shown["seed"])) for i in range(shown["clips"])}
    prompts: list[str] = []
    for index in range(_TRIES * count):
        scene = drawn.scene(index, seed=seed)
        text = complete_caption(scene, random.Random(f"{seed}/{index}"))
        known = not any(prompt_notes(text, world) for world in worlds)
        if known and attributes(scene) not in seen and _understood(text, worlds[0]) == _understood(text, worlds[1]):
            prompts.append(text)
        if len(prompts) == count:
            return prompts
    raise UserError(
        f"the worlds {first.world} and {second.world} share {len(prompts)} prompts of {count}; ask for less"
    )


def _understood(text: str, world: AnyWorld) -> tuple[str | None, str | None, bool, str | None]:
    """The meaning of a text in a world: color, shape, if a motion is named, camera."""
    if isinstance(world, WideWorld):
        wide = parse_wide(text)
        thing = wide.things[0] if wide.things else ThingAsked()
        return thing.color, thing.shape, thing.motion is not None, wide.camera
    asked = parse_narrow(text, world)
    return asked.color, asked.shape, asked.motion is not None, asked.camera


def compare(
    first: Contender, second: Contender, count: int, seed: int = 2026, batch: int = 20
) -> dict[str, dict[str, float]]:
    """Shares of both on the same prompts, and "difference" and "standard error" of second - first, over pairs."""
    prompts = shared_prompts(first, second, count, seed)
    rows = []
    for side in (first, second):
        table: dict[str, list[bool]] = {name: [] for name in COLUMNS}
        for start in range(0, count, batch):
            texts = prompts[start : start + batch]
            for clip, text in zip(side.generate(texts, seed + start), texts, strict=True):
                for name, right in followed(clip, text, WORLDS[side.world]).items():
                    table[name].append(right)
        rows.append(table)
    names = [name for name in COLUMNS if rows[0][name] and len(rows[0][name]) == len(rows[1][name])]
    pairs = {name: paired_difference(rows[1][name], rows[0][name]) for name in names}
    return {
        **{
            side.name: {name: sum(row[name]) / len(row[name]) for name in names}
            for side, row in zip((first, second), rows, strict=True)
        },
        "difference": {name: difference for name, (difference, _) in pairs.items()},
        "standard error": {name: error for name, (_, error) in pairs.items()},
    }


def followed(clip: Tensor, prompt: str, world: AnyWorld) -> dict[str, bool]:  # uint8 [F, H, W, 3]
    """True where a clip shows what is asked for, by COLUMNS that the prompt concerns; all: the others together."""
    asked = parse_wide(prompt) if isinstance(world, WideWorld) else parse_narrow(prompt, world)
    columns = {name: column[0] for name, column in hits([judge_clip(clip, asked)], [asked]).items() if column}
    shared = {name: columns[name] for name in COLUMNS if name in columns and name != "all"}
    return {**shared, "all": all(shared.values())}
