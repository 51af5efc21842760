"""Words that a world does not know are named, with the nearest that it knows."""

import random

import pytest

from hunyuan_video.data.toyworld import WORLDS, caption
from hunyuan_video.data.toyworld.known import known_words, prompt_notes, unknown_words, word_table
from hunyuan_video.training.text.captions import describe

NARROW, WIDE = WORLDS["narrow"], WORLDS["wide"]
STRANGE = """
a cat sleeps on a sofa | a dog running in the park | portrait of a smiling woman
| new york at night, cinematic | a horse | dragons | my grandmother
| a red car drives through the rain | ein roter hund | una estrella roja | un chat noir | 一只猫
| кошка | قطة | 猫が走る | asdf qwerty | hello | what can you do? | 8k masterpiece | the meaning of life
| a cube | spongebob | two people dancing | an astronaut riding a horse | a bowl of fruit
| a tree in the wind | waves | fire | a plane over paris | 12345 | !!! | SELECT * FROM users
| <script> | a robot waves | a fish swims | birds | a clock | a house on a hill | snow
| abstract art | time lapse of clouds | a cup of coffee | stop motion lego | a train | a phone rings
| rainbow | football match | einstein | a violin | a butterfly
""".replace("\n", " ").split("|")


@pytest.mark.parametrize("world", [NARROW, WIDE], ids=["narrow", "wide"])
def test_captions_and_their_synonyms_are_known(world):
    for number, scene in enumerate(world.scenes(300, seed=21)):
        text = caption(scene, random.Random(number)).text
        assert unknown_words(text, world) == [], text
        assert not prompt_notes(text, world)
    if world is WIDE:
        for number, scene in enumerate(world.scenes(300, seed=22)):
            text = describe(scene, random.Random(number))
            assert not prompt_notes(text, world), text


@pytest.mark.parametrize("world", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("prompt", [*STRANGE, "", "   ", "word " * 300], ids=lambda text: text.strip()[:12])
def test_prompts_of_people_who_try_anything_get_a_line(world, prompt):
    lines = prompt_notes(prompt, world)
    assert lines and all(line and "\n" not in line for line in lines)
    assert len(lines) <= 10


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ("a red cube", "cube: not in this world; nearest: square"),
        ("a red squar moves left", "squar: not in this world; nearest: square"),
        ("a green planet", "planet: not in this world; nearest: circle"),
        ("a red star runs left", "runs: not in this world; nearest: moves"),
        ("a blue zebra", "zebra: not in this world"),
    ],
)
def test_the_nearest_word_is_offered(prompt, line):
    assert line in prompt_notes(prompt, WIDE)


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
