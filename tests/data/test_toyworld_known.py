"""Words of a prompt that a world does not know are named, with the nearest that it has."""

import random

import pytest

from hunyuan_video.data.toyworld import WORLDS, caption
from hunyuan_video.data.toyworld.known import EXAMPLE, known_words, prompt_notes, unknown_words, word_table
from hunyuan_video.data.toyworld.nearest import NEAR, is_slip, nearest
from hunyuan_video.training.text.captions import describe
from hunyuan_video.training.text.words import language_tokenizer
from tests.helpers.strange_prompts import STRANGE

NARROW, WIDE = WORLDS["narrow"], WORLDS["wide"]
BOTH = pytest.mark.parametrize("world", [NARROW, WIDE], ids=["narrow", "wide"])


@BOTH
def test_captions_and_their_synonyms_are_known(world):
    for number, scene in enumerate(world.scenes(600, seed=21)):
        for text in (caption(scene, random.Random(number)).text, describe(scene, random.Random(number))):
            assert prompt_notes(text, world) == [], text


@BOTH
def test_every_known_word_has_a_token_of_its_own(world):
    tokenizer = language_tokenizer(world)
    unknown = tokenizer.token_to_id("<unk>")
    assert [word for word in sorted(known_words(world)) if unknown in tokenizer.encode(word).ids] == []


@BOTH
@pytest.mark.parametrize("prompt", STRANGE, ids=lambda text: text.strip()[:12])
def test_prompts_of_people_who_try_anything_get_a_line(world, prompt):
    lines = prompt_notes(prompt, world)
    assert lines and all(line and "\n" not in line and len(line) < 200 for line in lines)
    assert len(lines) <= 10


@BOTH
def test_the_example_is_known(world):
    assert prompt_notes(EXAMPLE, world) == []


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ("a red cube", "cube: not in this world; nearest: square"),
        ("a red squar moves left", "squar: not in this world; nearest: square"),
        ("a bleu circel", "bleu: not in this world; nearest: blue"),
        ("a bleu circel", "circel: not in this world; nearest: circle"),
        ("a green planet", "planet: not in this world; nearest: circle"),
        ("a red star runs left", "runs: not in this world; nearest: moves"),
        ("ein roter kreis", "roter: not in this world; nearest: red"),
        ("un círculo azul", "círculo: not in this world; nearest: circle"),
        ("seven stars", "seven: not in this world; nearest: three"),
        ("a blue zebra", "zebra: not in this world"),
        ("a duck", "duck: not in this world"),
        ("a 4k red star", "4k: not in this world"),
        ("a red star 🐱", "🐱: not in this world"),
        ("red " + "z" * 400, "z" * 30 + "...: not in this world"),
        ("赤い円", f'only English words are known; no word of the prompt says what to show; try "{EXAMPLE}"'),
        ("???", f'no word of the prompt says what to show; try "{EXAMPLE}"'),
        ("a big red thing", "no shape of this world is named; it has " + ", ".join(WIDE.words()["shape"])),
    ],
)
def test_the_line_and_the_nearest_word(prompt, line):
    assert line in prompt_notes(prompt, WIDE)


@pytest.mark.parametrize(
    ("world", "prompt", "line"),
    [
        (WIDE, "a red circle, a blue square and a green star", "3 things are named; this world shows one, or two"),
        (WIDE, "a red circle and a blue square", "how the two things stand to each other is not said"),
        (WIDE, "a navy star", "navy: a color of backgrounds here; things are red, orange"),
        (WIDE, "a star on a red background", "red: a color of things here; backgrounds are navy, teal"),
        (WIDE, "a dotted ring", "a dotted ring is not in this world; dotted are circle, square"),
        (WIDE, "a small striped star", "a small star is too small to be striped; from medium on it can be"),
        (WIDE, "three large stars", "3 large things do not fit into the picture; 3 small ones do"),
        (WIDE, "a red circle rotates", "a circle that turns looks like one at rest; a striped one does not"),
        (WIDE, "two stars grow", "several things that grow or shrink are not in this world"),
        (WIDE, "a red star under a starry sky by day", "a starry sky is seen at dusk or night, not by day"),
        (WIDE, "a red star on a navy background, zoom in", "plain backgrounds show no camera motion; checkered"),
        (WIDE, "a star that is not red", "what is not to be seen cannot be said"),
        (NARROW, "a red star and a blue star", "2 things are named; this world shows one at a time"),
        (NARROW, "a black star", "black: a color of backgrounds here; things are red, green"),
        (NARROW, "a circle on a red background", "red: a color of things here; backgrounds are gray, navy"),
        (NARROW, "two stars", "stars: not in this world; nearest: star"),
        (NARROW, "a star without points", "what is not to be seen cannot be said"),
    ],
)
def test_known_words_that_never_go_together(world, prompt, line):
    assert any(note.startswith(line) for note in prompt_notes(prompt, world)), prompt_notes(prompt, world)


def test_a_slip_is_one_letter_or_two_that_changed_places():
    slips = [("squar", "square"), ("sqaure", "square"), ("circcle", "circle"), ("sterr", "stern"), ("bleu", "blue")]
    assert all(is_slip(*pair) for pair in slips)
    others = [("night", "right"), ("duck", "dusk"), ("snow", "slow"), ("playing", "plain"), ("moon", "moon")]
    assert not any(is_slip(*pair) for pair in others)


def test_a_nearest_word_is_one_that_the_world_knows():
    for world in (NARROW, WIDE):
        known = known_words(world)
        for words in NEAR.values():
            assert all(nearest(word, known) in known | {None} for word in words.split())
    assert {nearest(word, known_words(WIDE)) for word in ("dawn", "sunset")} == {"dusk", "sunset"}
    assert nearest("black", known_words(WIDE)) == "gray" and nearest("noir", known_words(WIDE)) == "gray"


def test_words_of_another_world_are_unknown_in_this_one():
    assert [str(entry) for entry in unknown_words("a pink heart orbits a red star", NARROW)][:2] == [
        "pink: not in this world",
        "heart: not in this world",
    ]
    assert unknown_words("a pink heart orbits a red star", WIDE) == []
    assert known_words(NARROW) < known_words(WORLDS["full"])


def test_the_list_of_words():
    lines = word_table(WIDE)
    assert lines[4] == "shape: circle, square, triangle, star, heart, cross, ring, moon"
    assert "light: day, dusk, night" in lines
