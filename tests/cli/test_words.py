"""A toyworld's checkpoint says which words of a prompt it does not know, before it samples."""

import json
import shutil

import pytest

from tests.helpers.strange_prompts import STRANGE


def _of_world(checkpoint, folder, world):
    """The random checkpoint, said to be of a world."""
    shutil.copytree(checkpoint, folder)
    path = folder / "sampling.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "world": world}))
    return folder


@pytest.fixture(scope="module")
def toy(checkpoint, tmp_path_factory):
    return _of_world(checkpoint, tmp_path_factory.mktemp("toy") / "checkpoint", "narrow")


@pytest.fixture(scope="module")
def wide(checkpoint, tmp_path_factory):
    return _of_world(checkpoint, tmp_path_factory.mktemp("wide") / "checkpoint", "wide")


def test_unknown_words_are_noted_and_the_video_is_made(command, work, toy):
    result = command("sample", "--model", toy, "--device", "cpu", "a red cube moves left", "-o", "a.gif")
    assert (result.code, result.out) == (0, "a.gif\n")
    assert "note: cube: not in this world; nearest: square\n" in result.err


def test_strict_refuses_before_anything_is_loaded(command, work, toy):
    result = command("sample", "--model", toy, "--strict", "a red zebra", "-o", "a.gif")
    assert result.code == 2 and result.out == ""
    assert "zebra: not in this world" in result.err and "--words" in result.err
    assert not list(work.iterdir())
    assert command("sample", "--model", toy, "--strict", "--device", "cpu", "a red star", "-o", "a.gif").code == 0


@pytest.mark.parametrize("number", range(len(STRANGE)))
def test_strict_refuses_what_people_try(command, work, toy, wide, number):
    # prompt_notes gives every prompt a line in both editions (tests/data/test_toyworld_known.py)
    model = (toy, wide)[number % 2]
    result = command("sample", "--model", model, "--strict", "--", STRANGE[number])
    assert result.code == 2 and result.out == "" and result.err.count("\n") == 1
    assert "--words" in result.err or "prompt" in result.err
    assert not list(work.iterdir())


def test_the_list_of_words(command, work, toy, wide, checkpoint):
    pairs = "relation: left of, above, in front of, chasing, orbiting\n"
    assert pairs in command("sample", "--model", wide, "--words").out
    result = command("sample", "--model", toy, "--words")
    assert (result.code, result.err) == (0, "")
    assert "shape: circle, square, triangle, star\n" in result.out
    assert command("sample", "--words").out == result.out  # the bundled checkpoint is of this world
    other = command("sample", "--model", checkpoint, "--words")
    assert other.code == 1 and "was not trained on a toyworld" in other.err
