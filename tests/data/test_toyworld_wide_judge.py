"""The wide world's judge sees what was drawn, from pixels alone."""

import random
from dataclasses import replace

import pytest
import torch

from hunyuan_video.data.toyworld import WORLDS, hits, judge_clip, render, score, shuffled_floor
from hunyuan_video.data.toyworld.degrade import degrade
from hunyuan_video.data.toyworld.wide import vocabulary as words
from hunyuan_video.data.toyworld.wide.judge import judge
from hunyuan_video.data.toyworld.wide.judge_motion import find_motion
from hunyuan_video.data.toyworld.wide.layout import tracks
from hunyuan_video.data.toyworld.wide.parsing import parse
from hunyuan_video.data.toyworld.wide.scene import Thing, with_details

STAR = Thing("star", "red", "large", "striped", "rotate", "normal")
HEART = Thing("heart", "cyan", "medium", "plain", "rest", "normal")


def scene_of(*things, relation=None, seed=0, **place):
    return with_details(things, relation, rng=random.Random(seed), **place)


def seen(scene, num_frames=17, size=96):
    return judge(render([scene], num_frames, size)[0])


def test_scenes_of_the_world_are_seen_as_they_are():
    scenes = WORLDS["wide"].scenes(8, seed=31)
    clips = render(scenes, 17, 96)
    judgements = [judge_clip(clip, scene) for clip, scene in zip(clips, scenes, strict=True)]
    assert score(judgements, scenes)["all"] == 1.0
    assert shuffled_floor(judgements, scenes)["all"] == 0.0


@pytest.mark.parametrize("size", [(64, 96), 160])
def test_every_size(size):
    scene = scene_of(replace(HEART, motion="left", speed="slow"), background="landscape", light="night")
    assert seen(scene, size=size).attributes() == scene.attributes()


def test_a_worn_clip():
    scene = scene_of(STAR, HEART, relation="left of", background="checkered", camera="zoom in")
    worn = degrade(render([scene], 17, 96), blur=0.8, noise=0.02)[0]
    assert judge(worn).attributes() == scene.attributes()


def test_which_of_two_is_in_front():
    pair = scene_of(replace(HEART, size="small"), replace(STAR, motion="rest"), relation="in front of")
    other = scene_of(replace(STAR, motion="rest", size="small", fill="plain"), HEART, relation="in front of")
    for scene in (pair, other):
        result = seen(scene)
        assert result.relation == "in front of"
        assert [thing.color for thing in result.things] == [thing.color for thing in scene.things]


@pytest.mark.parametrize("speed", words.SPEEDS)
@pytest.mark.parametrize("motion", [name for name in words.MOTIONS if name not in ("rest", "rotate")])
def test_motions_and_speeds_from_places(motion, speed):
    progress = torch.linspace(0.0, 1.0, 17)
    scene = scene_of(replace(HEART, motion=motion, speed=speed, size="small"))
    (track,) = tracks(scene, progress)
    places = torch.stack([track.x, track.y, track.radius.square()], -1)[:, None]
    result = find_motion(progress, places, turn=0.0)
    assert (result.name, result.speed) == (motion, speed)


def test_rest_and_rotation_from_angles():
    progress = torch.linspace(0.0, 1.0, 17)
    still = torch.tensor([3.0, -2.0, 50.0]).expand(17, 1, 3)
    for turn, expected in ((3.0, ("rest", "normal")), (-52.0, ("rotate", "slow")), (205.0, ("rotate", "fast"))):
        result = find_motion(progress, still, turn)
        assert (result.name, result.speed) == expected


def test_an_empty_clip_shows_nothing():
    scene = scene_of(HEART, background="gradient", background_color="olive", light="dusk")
    clip = render([scene], 5, 64)[0]
    clip[:] = clip[:, :, :4].mean(2, keepdim=True, dtype=torch.float32).to(torch.uint8)
    result = judge(clip)
    assert result.things == ()
    assert (result.background_color, result.light) == ("olive", "dusk")


def test_single_frames_have_no_camera():
    scene = scene_of(HEART, background="checkered", light="day")
    result = seen(scene, num_frames=1)
    assert result.camera is None
    assert result.things == scene.things


def test_what_is_no_clip_is_refused():
    with pytest.raises(TypeError, match="torch.float32; give uint8"):
        judge(torch.zeros(3, 8, 8, 3))
    with pytest.raises(ValueError, match="give one clip"):
        judge(torch.zeros(3, 8, 8, dtype=torch.uint8))


def test_scores_count_only_what_was_asked():
    scene = scene_of(STAR, HEART, relation="left of")
    result = seen(scene)
    table = hits([result] * 3, [parse(text) for text in (
        "a red star is to the left of a cyan heart",
        "a cyan heart is to the left of a red star",
        "two red stars are to the left of a cyan heart",
    )])  # fmt: skip
    assert table["relation"] == [True, False, True]
    assert table["color"] == [True, True, True]
    assert table["count"] == [True, True, False]
    assert table["pair"] == table["all"] == [True, False, False]
    assert not table["single"]
    with pytest.raises(ValueError, match="1 judgements for 2 scenes"):
        hits([result], [scene, scene])
