"""Two checkpoints side by side: only prompts that both know, each judged in its own world."""

import random

import pytest
import torch

from hunyuan_video.cli import main
from hunyuan_video.data.toyworld import WORLDS, render
from hunyuan_video.data.toyworld.known import prompt_notes
from hunyuan_video.data.toyworld.parsing import parse as parse_narrow
from hunyuan_video.data.toyworld.scene import with_details as narrow_scene
from hunyuan_video.data.toyworld.wide.parsing import parse as parse_wide
from hunyuan_video.data.toyworld.wide.scene import Thing
from hunyuan_video.data.toyworld.wide.scene import with_details as wide_scene
from hunyuan_video.errors import UserError
from hunyuan_video.evaluation.intervals import wilson
from hunyuan_video.evaluation.side_by_side import Contender, compare, shared_prompts


def narrow_clips(prompts, seed):
    return render([narrow_scene(parse_narrow(prompt, WORLDS["narrow"]), seed) for prompt in prompts], 5, 48)


def wide_clips(prompts, seed):
    scenes = []
    for prompt in prompts:
        asked = parse_wide(prompt)
        thing = asked.things[0]
        usual = Thing(thing.shape, thing.color, thing.size or "medium", "plain", thing.motion or "rest", "normal")
        place = {"background": asked.background or "plain", "background_color": asked.background_color}
        camera = asked.camera or "static shot"
        scenes.append(wide_scene((usual,), None, **place, camera=camera, rng=random.Random(seed)))
    return render(scenes, 5, 48)


def blank(prompts, seed):
    return torch.full((len(prompts), 5, 48, 48, 3), 40, dtype=torch.uint8)


NARROW = Contender("first", "narrow", {"seed": 1, "clips": 300}, narrow_clips)
WIDE = Contender("second", "wide", None, wide_clips)


def test_the_prompts_are_known_to_both_and_were_not_trained_on():
    prompts = shared_prompts(NARROW, WIDE, 20, seed=5)
    assert prompts == shared_prompts(WIDE, NARROW, 20, seed=5)  # whichever comes first
    for prompt in prompts:
        assert not prompt_notes(prompt, WORLDS["narrow"]) and not prompt_notes(prompt, WORLDS["wide"])
        assert parse_wide(prompt).things[0].shape == parse_narrow(prompt, WORLDS["narrow"]).shape


def test_two_perfect_ones_are_equal_and_a_blank_one_is_worse():
    table = compare(NARROW, WIDE, 3, seed=5, batch=2)
    assert list(table) == ["first", "second", "difference", "standard error"]
    for name in ("color", "shape", "motion", "all"):
        assert table["first"][name] == table["second"][name] == 1.0 and table["difference"][name] == 0.0
    worse = compare(NARROW, WIDE._replace(generate=blank), 2, seed=5)
    assert worse["second"]["all"] == 0.0 and worse["difference"]["color"] < 0


def test_worlds_that_share_too_few_prompts_are_refused(monkeypatch):
    monkeypatch.setattr("hunyuan_video.evaluation.side_by_side._TRIES", 1)
    with pytest.raises(UserError, match="share . prompts of 4; ask for less"):
        shared_prompts(NARROW, WIDE, 4, seed=5)


def test_the_interval_of_a_share():
    low, high = wilson(0.5, 100)
    assert (round(low, 4), round(high, 4)) == (0.4038, 0.5962)
    assert wilson(0.0, 10)[0] == 0.0 and wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0.5, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--against", "tiny"], 2, "both tiny; give two checkpoints"),
        (["--against", "nowhere"], 1, "no checkpoint folder 'nowhere'"),
        (["--against", "nowhere", "--sheet", "a.png"], 2, "--sheet shows the clips of one checkpoint"),
    ],
)
def test_bad_arguments_are_one_line_before_anything_is_loaded(capsys, arguments, code, line):
    assert main(["eval", *arguments]) == code
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
