"""toyworld: scenes, pixels and words."""

import json
import random
from dataclasses import replace

import pytest
import torch

from hunyuan_video.data.toyworld import WORLDS, Attributes, caption, parse, render, with_details
from hunyuan_video.data.toyworld.captions import FORMS, tokens, vocabulary
from hunyuan_video.data.toyworld.phrases import FIELD_NAMES
from hunyuan_video.data.toyworld.scene import is_test
from hunyuan_video.data.toyworld.vocabulary import BACKGROUND_COLORS, CAMERAS, OBJECT_COLORS, UNTEXTURED

NARROW, FULL = WORLDS["narrow"], WORLDS["full"]
both_worlds = pytest.mark.parametrize("world", [NARROW, FULL], ids=lambda world: world.name)


def plain(**wanted_words):
    return with_details(Attributes(**{**dict.fromkeys(NARROW.words()), **wanted_words}))


def object_center(clip):
    """Middle of the bright object in every frame, pixels from the picture's middle: [F, 2], x and y."""
    bright = (clip.amax(-1) > 150).float()
    place = torch.arange(clip.shape[1]) - (clip.shape[1] - 1) / 2
    area = bright.sum((1, 2))
    return torch.stack([(bright.sum(1) * place).sum(1) / area, (bright.sum(2) * place).sum(1) / area], 1)


@both_worlds
def test_scenes_are_the_same_in_every_order(world):
    forward = [world.scene(index, seed=3) for index in range(20)]
    assert [world.scene(index, seed=3) for index in reversed(range(20))] == forward[::-1]
    assert world.scenes(20, seed=3) == forward
    assert world.scenes(20, seed=4) != forward


def test_scenes_do_not_change_between_versions():
    # Trained checkpoints and published tables refer to scenes by number.
    assert list(FULL.scene(7, seed=5).attributes().values()) == [
        "triangle",
        "blue",
        "small",
        "down-right",
        "wavy",
        "olive",
        "tilt up",
    ]
    assert FULL.scene(7, seed=5).travel == pytest.approx(29.117200723290036)


@both_worlds
def test_every_word_occurs_and_cameras_move_only_over_textures(world):
    scenes = world.scenes(1500)
    for name, words in world.words().items():
        assert {getattr(scene, name) for scene in scenes} == set(words)
    assert all(scene.camera == "static shot" for scene in scenes if scene.texture in UNTEXTURED)
    assert not any(scene.motion == "rotate" and scene.shape in ("circle", "ring") for scene in scenes)
    assert 0.42 < sum(scene.camera == "static shot" for scene in scenes) / 1500 < 0.52


def test_the_full_world_has_what_the_issue_asks_for():
    assert set(FULL.shapes) >= {"circle", "square", "triangle", "star", "plus", "ring"}
    assert set(FULL.colors) >= {"red", "green", "blue", "yellow", "orange", "purple", "white", "cyan"}
    assert len(FULL.motions) == 13 and len(FULL.textures) == 7 and "gray" in FULL.backgrounds
    assert set(FULL.cameras) == set(CAMERAS) and len(CAMERAS) == 14
    assert not set(OBJECT_COLORS) & set(BACKGROUND_COLORS)


def test_splits_share_no_combination_of_attributes():
    train, test = NARROW.scenes(300, split="train"), NARROW.scenes(300, split="test")
    assert not any(is_test(scene) for scene in train) and all(is_test(scene) for scene in test)
    assert not {tuple(scene.attributes().values()) for scene in train} & {
        tuple(scene.attributes().values()) for scene in test
    }
    with pytest.raises(ValueError, match="split is 'val'"):
        NARROW.scene(0, split="val")


def test_render_gives_uint8_clips_that_do_not_depend_on_the_batch():
    scenes = FULL.scenes(6, seed=1)
    clips = render(scenes, num_frames=5, size=(40, 48))
    assert clips.shape == (6, 5, 40, 48, 3) and clips.dtype == torch.uint8
    alone = torch.cat([render([scene], num_frames=5, size=(40, 48)) for scene in reversed(scenes)]).flip(0)
    assert torch.equal(clips, alone)
    assert render([], num_frames=5).shape == (0, 5, 64, 64, 3)


def test_a_scene_looks_the_same_at_every_size_and_length():
    scenes = FULL.scenes(12, seed=2)
    small = render(scenes, num_frames=5, size=64).float()
    large = render(scenes, num_frames=9, size=128)[:, ::2].float()
    halved = large.unflatten(2, (64, 2)).unflatten(4, (64, 2)).mean((3, 5))
    difference = (halved - small).abs()
    assert difference.mean() < 0.5 and difference.amax(-1).gt(40).float().mean() < 1e-3
    wide = render(scenes, num_frames=5, size=(64, 96)).float()
    assert (wide[..., 16:80, :] - small).abs().max() <= 1  # float rounding of the grid


def test_render_refuses_impossible_sizes():
    with pytest.raises(ValueError, match="num_frames is 0"):
        render([], num_frames=0)
    with pytest.raises(ValueError, match="width is -8"):
        render([], size=(64, -8))


@pytest.mark.parametrize(
    ("motion", "sign"),
    [
        ("left", (-1, 0)),
        ("right", (1, 0)),
        ("up", (0, -1)),
        ("down", (0, 1)),
        ("up-left", (-1, -1)),
        ("down-right", (1, 1)),
        ("static", (0, 0)),
    ],
)
def test_objects_move_as_they_are_told(motion, sign):
    center = object_center(render([plain(motion=motion)], num_frames=5)[0])
    way = (center[-1] - center[0]).tolist()
    assert [round(step / 20) for step in way] == list(sign)


def test_grow_shrink_bounce_rotate():
    motions = ("static", "grow", "shrink", "bounce", "rotate")
    clips = render([plain(motion=motion, shape="square") for motion in motions], num_frames=9)
    still, grow, shrink, bounce, rotate = (clip.amax(-1) > 150 for clip in clips)
    assert torch.equal(still[0], still[-1])
    assert grow[-1].sum() > 4 * grow[0].sum() and shrink[0].sum() > 4 * shrink[-1].sum()
    height = object_center(clips[3])[:, 1]
    assert height[2] < height[0] - 20 and height[4] == pytest.approx(height[0].item(), abs=0.5)
    assert not torch.equal(rotate[0], rotate[-1])
    assert rotate[0].sum().item() == pytest.approx(rotate[-1].sum().item(), rel=0.1)


def test_cameras_have_the_signs_that_are_documented():
    """The camera goes one way, the picture's content the other."""
    cameras = ("static shot", "pan left", "pan right", "pan up", "pan down")
    still = replace(plain(texture="checkered"), position=(0.0, 0.0))
    ways = {}
    for camera in cameras:
        center = object_center(render([replace(still, camera=camera)], num_frames=3)[0])
        ways[camera] = [round(step / 10) for step in (center[-1] - center[0]).tolist()]
    assert ways == dict(zip(cameras, ([0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]), strict=True))

    def areas(camera, position):
        scene = replace(still, camera=camera, position=position, shape="square")
        bright = render([scene], num_frames=3)[0].amax(-1) > 150
        return bright.sum((1, 2)).tolist()

    assert areas("zoom in", (0, 0))[2] > 1.8 * areas("zoom in", (0, 0))[0]
    assert areas("zoom out", (0, 0))[0] > 1.8 * areas("zoom out", (0, 0))[2]
    # The side towards which the camera tilts recedes.
    for camera, position in (("up", (0, -9)), ("down", (0, 9)), ("left", (-9, 0)), ("right", (9, 0))):
        first, _, last = areas(f"tilt {camera}", position)
        assert last < 0.9 * first
    # around left: an object on the right goes up (counter-clockwise).
    right = replace(still, position=(9.0, 0.0))
    center = object_center(render([replace(right, camera="around left")], num_frames=3)[0])
    assert center[-1, 1] < center[0, 1] - 2
    center = object_center(render([replace(right, camera="around right")], num_frames=3)[0])
    assert center[-1, 1] > center[0, 1] + 2


@both_worlds
def test_the_object_stays_in_the_picture(world):
    clips = render(world.scenes(60, seed=8), num_frames=9)
    bright = (clips.amax(-1) > 150).float()
    rim = bright.clone()
    rim[:, :, 1:-1, 1:-1] = 0
    assert (bright.sum((2, 3)) > 10).float().mean() > 0.99
    assert (rim.sum((2, 3)) > 0).float().mean() < 0.2


@both_worlds
@pytest.mark.parametrize("form", FORMS)
def test_captions_parse_back_to_their_scenes(world, form):
    rng = random.Random(form)
    for scene in world.scenes(80, seed=9):
        text = caption(scene, rng, form).text
        for name, word in parse(text, world).attributes().items():
            unsaid = name == "size" or (form == "brief" and name in ("texture", "background", "camera"))
            assert word == getattr(scene, name) or (unsaid and word is None), f"{name} of {text!r}"


@both_worlds
def test_captions_use_only_the_vocabulary(world):
    known, rng = set(vocabulary(world)), random.Random(0)
    used = set()
    for scene in world.scenes(800, seed=10):
        wanted_words = caption(scene, rng)
        for text in (wanted_words.text, *wanted_words.fields.values()):
            used.update(tokens(text))
        assert tuple(wanted_words.fields) == FIELD_NAMES
        assert len(tokens(wanted_words.text)) <= 64
    assert used <= known and len(known) < 130
    assert len(known - used) < 10


def test_captions_are_deterministic_and_say_what_the_issue_says():
    scene = plain(shape="star", color="green", motion="up", background="gray")
    assert caption(scene, random.Random(4)) == caption(scene, random.Random(4))
    texts = {caption(scene, random.Random(seed), "sentence").text for seed in range(300)}
    assert "a green star moves up on a gray background, the camera is static" in texts
    scene = plain(shape="circle", color="red", motion="right", texture="striped", background="navy", camera="zoom in")
    texts = {caption(scene, random.Random(seed), "sentence").text for seed in range(300)}
    assert "a red circle moves right on a striped navy background, the camera zooms in" in texts
    assert json.loads(caption(scene, random.Random(0), "structured").text)
    with pytest.raises(ValueError, match="form is 'poem'"):
        caption(scene, random.Random(0), "poem")


@pytest.mark.parametrize(
    ("text", "wanted_words"),
    [
        (
            "A big red ball flying upwards over a grey striped background while the camera slowly pans to the left",
            ("circle", "red", "large", "up", "striped", "gray", "pan left"),
        ),
        (
            "Zooming in on a violet cross that drifts down to the right",
            ("plus", "purple", None, "down-right", None, None, "zoom in"),
        ),
        ("two blue rings spin", ("ring", "blue", None, "rotate", None, None, None)),
        ("", (None,) * 7),
    ],
)
def test_parse_makes_the_best_of_free_words(text, wanted_words):
    assert tuple(parse(text, FULL).attributes().values()) == wanted_words


def test_parse_leaves_out_what_the_world_lacks():
    assert parse("a red ring rotates, the camera tilts up", NARROW) == Attributes(
        None, "red", None, None, None, None, None
    )
