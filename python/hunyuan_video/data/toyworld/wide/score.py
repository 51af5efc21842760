"""Scores of judgements of wide clips against the requested words."""

from collections.abc import Sequence

from hunyuan_video.data.toyworld.wide import vocabulary as words
from hunyuan_video.data.toyworld.wide.judge import WideJudgement
from hunyuan_video.data.toyworld.wide.parsing import Asked, ThingAsked
from hunyuan_video.data.toyworld.wide.scene import THING, Thing, WideScene

PLACE = ("background", "background_color", "light", "camera")
COLUMNS = (*THING, "direction", "relation", *PLACE, "camera_moving", "single", "pair", "all")


def hits(judgements: Sequence[WideJudgement], asked: Sequence[WideScene | Asked]) -> dict[str, list[bool]]:
    """Column -> for every clip that it concerns, in order, whether the clip shows what is asked.

    count to speed: of all things of the clip, each as far as it is said; a clip with more or fewer things has none of
    them right. direction: motion of things asked to go somewhere. relation: of two things. camera: where its motion
    can be seen; camera_moving: those of them with a moving camera. all: everything; single, pair: the same, of clips
    with one thing and with two. ValueError where the two lists differ in length.
    """
    if len(judgements) != len(asked):
        raise ValueError(f"{len(judgements)} judgements for {len(asked)} scenes; give one each")
    table: dict[str, list[bool]] = {name: [] for name in COLUMNS}
    for judgement, scene in zip(judgements, asked, strict=True):
        followed = _followed(judgement, scene)
        for name, hit in followed.items():
            table[name].append(hit)
        if any(thing.motion in words.DIRECTIONS for thing in scene.things):
            table["direction"].append(followed["motion"])
        if "camera" in followed and scene.camera != "static shot":
            table["camera_moving"].append(followed["camera"])
        right = all(followed.values())
        table["all"].append(right)
        table["pair" if len(scene.things) > 1 else "single"].append(right)
    return table


def _followed(judgement: WideJudgement, scene: WideScene | Asked) -> dict[str, bool]:
    orders = [judgement.things, judgement.things[::-1]]
    rows = [_things_followed(seen, scene.things) for seen in orders]
    # Which of two things is which is told by the rest of their words, where the relation is wrong.
    followed = max(rows, key=lambda row: sum(row.values()))
    asked = {name: getattr(scene, name) for name in PLACE}
    if scene.background is None or scene.background in words.UNTEXTURED:
        asked["camera"] = None
    followed = {**followed, **{n: getattr(judgement, n) == word for n, word in asked.items() if word is not None}}
    if scene.relation is not None:
        same_order = sum(rows[0].values()) == sum(followed[name] for name in rows[0])
        followed["relation"] = same_order and judgement.relation == scene.relation
    return followed


def _things_followed(seen: Sequence[Thing], asked: Sequence[Thing | ThingAsked]) -> dict[str, bool]:
    followed: dict[str, bool] = {}
    for name in THING:
        wanted = [getattr(thing, name) for thing in asked]
        if any(word is not None for word in wanted):
            pairs = zip(wanted, seen, strict=False)
            right = all(word is None or word == getattr(thing, name) for word, thing in pairs)
            followed[name] = right and len(seen) == len(asked)
    return followed
