"""Scores of judgements against the requested attributes."""

from collections.abc import Sequence
from typing import cast

from hunyuan_video.data.toyworld.analyser import Judgement
from hunyuan_video.data.toyworld.scene import Attributes
from hunyuan_video.data.toyworld.vocabulary import DIRECTIONS, UNTEXTURED
from hunyuan_video.data.toyworld.wide import score as wide
from hunyuan_video.data.toyworld.wide.judge import WideJudgement
from hunyuan_video.data.toyworld.wide.parsing import Asked
from hunyuan_video.data.toyworld.wide.scene import WideScene

AnyJudgement = Judgement | WideJudgement
Prompt = Attributes | WideScene | Asked  # a scene, or a parsed prompt
_JUDGED = ("color", "shape", "motion", "background", "camera")


def score(judgements: Sequence[AnyJudgement], scenes: Sequence[Prompt]) -> dict[str, float]:
    """Fractions of the clips that show what their scene (or parsed prompt) asks for, in [0, 1]; NaN: nothing to judge.

    The columns are those of `hits`. ValueError where the two lists differ in length.
    """
    table = hits(judgements, scenes)
    return {name: sum(column) / len(column) if column else float("nan") for name, column in table.items()}


def hits(judgements: Sequence[AnyJudgement], scenes: Sequence[Prompt]) -> dict[str, list[bool]]:
    """Column -> for every clip that it concerns, in order, whether the clip shows what its scene asks for.

    color, shape, motion, background: all clips that ask for one. direction: motion, of the objects asked to go
    somewhere. camera: clips on a texture, where a camera's motion can be seen; camera_moving: those of them with a
    moving camera. all: color, shape, motion and (on a texture) camera together. Which clips a column concerns depends
    on the scenes alone, so the lists of two models for the same scenes are pairs.
    The wide world has columns of its own (`wide.score`). ValueError where the two lists differ in length.
    """
    if _is_wide(scenes):
        return wide.hits(cast(Sequence[WideJudgement], judgements), cast(Sequence[WideScene | Asked], scenes))
    if len(judgements) != len(scenes):
        raise ValueError(f"{len(judgements)} judgements for {len(scenes)} scenes; give one each")
    table: dict[str, list[bool]] = {name: [] for name in (*_JUDGED, "direction", "camera_moving", "all")}
    pairs = zip(cast(Sequence[Judgement], judgements), cast(Sequence[Attributes], scenes), strict=True)
    for judgement, scene in pairs:
        followed = _followed(judgement, scene)
        for name, hit in followed.items():
            table[name].append(hit)
        if scene.motion in DIRECTIONS:
            table["direction"].append(followed["motion"])
        if "camera" in followed and scene.camera != "static shot":
            table["camera_moving"].append(followed["camera"])
        table["all"].append(all(hit for name, hit in followed.items() if name != "background"))
    return table


def _is_wide(scenes: Sequence[object]) -> bool:
    return bool(scenes) and isinstance(scenes[0], WideScene | Asked)


def shuffled_floor(judgements: Sequence[AnyJudgement], scenes: Sequence[Prompt]) -> dict[str, float]:
    """The same fractions with every clip judged against other clips' prompts: what a blind generator would get.

    The mean over the shifts by 1, 2, ..., up to 16 places.
    """
    shifts = range(1, min(17, len(scenes)))
    if not shifts:
        raise ValueError(f"{len(scenes)} scenes; a floor needs at least two")
    tables = [score(judgements, [*scenes[shift:], *scenes[:shift]]) for shift in shifts]
    return {name: sum(table[name] for table in tables) / len(tables) for name in tables[0]}


def _followed(judgement: Judgement, scene: Attributes) -> dict[str, bool]:
    asked = {name: getattr(scene, name) for name in _JUDGED}
    if scene.texture is None or scene.texture in UNTEXTURED:
        asked["camera"] = None
    return {name: getattr(judgement, name) == word for name, word in asked.items() if word is not None}
