"""The wide world drawn in lines: the same scenes' words, other pictures, a caption that says so."""

import random
from dataclasses import replace

import pytest
import torch

from hunyuan_video.data.toyworld import WORLDS, caption, render
from hunyuan_video.data.toyworld.wide.parsing import parse
from hunyuan_video.data.toyworld.wide.strokes import PAPER
from hunyuan_video.training.text.words import clip_tokenizer, language_tokenizer

LINES = WORLDS["lines"]


def test_scenes_are_drawn_on_paper_in_lines():
    scenes = [replace(s, light="day", background="plain", background_color="navy") for s in LINES.scenes(6, seed=2)]
    clips = render(scenes, num_frames=5, size=64).float() / 255.0
    paper = (clips - torch.tensor(PAPER)).abs().amax(-1) < 0.01
    share = paper.flatten(1).float().mean(1)
    assert (share > 0.75).all() and (share < 0.999).all()
    flat = render([replace(scene, style="flat") for scene in scenes], num_frames=5, size=64).float() / 255.0
    assert (flat.flatten(1).mean(1) < clips.flatten(1).mean(1)).all()


@pytest.mark.parametrize("background", ["gradient", "checkered", "starry", "landscape"])
def test_other_backgrounds_have_lines(background):
    scene = replace(LINES.scene(0), light="night", background=background, background_color="teal")
    empty = replace(scene, background="plain")
    both = render([scene, empty], num_frames=2, size=64).float()
    assert 0.01 < ((both[0] - both[1]).abs().amax(-1) > 8).float().mean() < 0.7


def test_captions_begin_with_the_style_and_say_the_rest_as_usual():
    for number, scene in enumerate(LINES.scenes(100, seed=3)):
        text = caption(scene, random.Random(number)).text
        assert "drawn in lines" in text
        flat = caption(replace(scene, style="flat"), random.Random(number)).text
        assert "drawn" not in flat
        if not text.startswith("{"):
            assert text == f"drawn in lines. {flat}" and parse(text).things == parse(flat).things


def test_tokenizers_of_the_wide_world_have_the_words_of_the_style():
    for tokenizer in (language_tokenizer(WORLDS["wide"]), clip_tokenizer(WORLDS["wide"])):
        assert tokenizer.token_to_id("<unk>") not in tokenizer.encode("drawn in lines").ids
