"""Parameters of a request against the declaration of a run's arguments: any value gives a request or one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hunyuan_video.errors import ArgumentError
from hunyuan_video.models.grid import Grid
from hunyuan_video.rules import Choice, Count, Method, Number
from hunyuan_video.sampling.request import ARGUMENTS, SampleRequest, SamplingDefaults
from hunyuan_video.serving.body import json_object
from hunyuan_video.serving.parameters import EXTENSIONS, KNOWN, frames_of, json_schema, read_video_request
from hunyuan_video.serving.problems import Problem

DEFAULTS, GRID = SamplingDefaults(), Grid()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def read(values):
    return read_video_request(values, DEFAULTS, GRID, "released", {"style": None})


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(KNOWN), VALUES, max_size=5))
def test_any_values_give_a_request_or_one_line(values):
    try:
        wanted = read({"prompt": "a cat", **values})
    except (Problem, ArgumentError) as error:
        assert str(error) and "\n" not in str(error)
        return
    json.dumps([wanted.arguments, wanted.settings.as_dict(), wanted.loras]).encode()
    SampleRequest(wanted.prompt, **wanted.arguments).check()


@settings(max_examples=60)
@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps({"prompt": value}).encode()))
def test_any_body_is_an_object_or_one_line(body):
    try:
        assert isinstance(json_object(body), dict)
    except Problem as error:
        assert error.status == 400 and "\n" not in error.message


@pytest.mark.parametrize("name", [name for name, known in EXTENSIONS.items() if known.rule and name != "sigmas"])
def test_every_bound_is_the_declared_one(name):
    rule = ARGUMENTS[name].rule
    wrong = {Count: 0, Number: -1e9, Choice: "no such word", Method: "no such word"}[type(rule)]
    with pytest.raises(ArgumentError, match=f"{name} must be"):
        read({"prompt": "a cat", name: wrong})
    with pytest.raises(ArgumentError, match=f"{name} must be"):  # as a form has it
        read({"prompt": "a cat", name: str(wrong)})


def test_noise_levels_as_a_list_and_as_text():
    for levels in ([1, 0.5], "1,0.5", ["1", "0.5"], [1, 0.5, 0]):
        wanted = read({"prompt": "a", "sigmas": levels})
        assert wanted.arguments["sigmas"] == [1, 0.5, 0] and wanted.settings.num_inference_steps == 2
    for wrong in ([0.5, 1], [], "a", [[1]], {"a": 1}, [True], 3):
        with pytest.raises((Problem, ArgumentError), match="sigmas"):
            read({"prompt": "a", "sigmas": wrong})


def test_texts_of_a_form_mean_what_json_numbers_mean():
    typed = {"num_frames": 5, "guidance_scale": 2.5, "seed": 2**53 + 1, "flow_shift": 7.0, "height": 64}
    texts = {"num_frames": "5", "guidance_scale": "2.5", "seed": str(2**53 + 1), "flow_shift": "7.0", "height": "64.0"}
    assert read({"prompt": "a", **typed}).arguments == read({"prompt": "a", **texts}).arguments == typed


@pytest.mark.parametrize(("seconds", "frames"), [(0.01, 1), (1, 25), (4, 97), (5.375, 129), (5.40, 129), (5.46, 133)])
def test_seconds_to_frames(seconds, frames):
    assert frames_of(seconds, 24, GRID) == frames and (frames - 1) % 4 == 0


def test_the_schema_says_what_the_rules_say():
    properties = json_schema()["properties"]
    assert properties["num_inference_steps"]["maximum"] == ARGUMENTS["num_inference_steps"].rule.most
    assert properties["guidance_rescale"] == {
        "type": "number", "minimum": 0.0, "maximum": 1.0, "description": ARGUMENTS["guidance_rescale"].help,
    }  # fmt: skip
    assert properties["vae_mode"]["enum"] == ["auto", "plain", "tiled", "exact"]
    assert set(json_schema()["properties"]) == set(KNOWN) - {"input_reference"}
