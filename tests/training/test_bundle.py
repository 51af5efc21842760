"""The checkpoint folder of trained parts: what it takes the place of, and what it refuses."""

import json
from dataclasses import replace

import pytest

from hunyuan_video.checkpoints.layout import BUNDLED
from hunyuan_video.errors import UserError
from hunyuan_video.training.bundle import check, execute
from hunyuan_video.training.config import BundleRun, load_config

TINY = BUNDLED["tiny"]
PARTS = {"transformer": str(TINY / "transformer"), "vae": str(TINY / "vae"), "text": str(TINY)}


def quiet(line):
    pass


def test_an_older_bundle_is_replaced_and_anything_else_is_kept(tmp_path):
    output = tmp_path / "bundle"
    for steps in (1, 2):
        execute(BundleRun(output=str(output), sampling={"num_inference_steps": steps}, **PARTS), quiet)
    assert json.loads((output / "sampling.json").read_text())["num_inference_steps"] == 2
    (output / "17x64x64").mkdir()
    (output / "17x64x64/00000.tar").write_bytes(b"a data set")
    with pytest.raises(UserError, match="holds other things .17x64x64"):
        execute(BundleRun(output=str(output), **PARTS), quiet)
    assert (output / "17x64x64/00000.tar").exists() and (output / "model_index.json").exists()


@pytest.mark.parametrize(("sampling", "shift"), [({}, 7.0), ({"flow_shift": 3.0}, 3.0)])
def test_diffusers_files_are_those_of_the_bundled_checkpoint(tmp_path, sampling, shift):
    """The shift for diffusers is the one that is sampled with: the given one, else the released model's."""
    execute(BundleRun(output=str(tmp_path / "bundle"), sampling=sampling, **PARTS), quiet)
    assert (tmp_path / "bundle/model_index.json").read_text() == (TINY / "model_index.json").read_text()
    scheduler = json.loads((tmp_path / "bundle/scheduler/scheduler_config.json").read_text())
    assert scheduler == {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": shift}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapters": {"a": "absent.safetensors"}}, "cannot read absent.safetensors"),
        ({"adapters": {"a": __file__}}, "is not a safetensors file"),
        ({"adapters": {"../a": "x"}}, "must be a plain name"),
        ({"adapters": {"a": 3}}, "must be a plain name"),
        ({"sampling": {"num_inference_steps": "many"}}, "sampling: num_inference_steps must be int"),
        ({"sampling": {"flow_shift": -1}}, "sampling: flow_shift must be more than 0"),
        ({"sampling": {"adapters": {"a": {"fps": 0}}}}, "a: fps must be more than 0"),
        ({"text": "absent"}, "absent: neither text.json nor sampling.json"),
    ],
)
def test_what_cannot_be_bundled_is_one_line(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        execute(BundleRun(output=str(tmp_path / "bundle"), **{**PARTS, **changes}), quiet)
    assert not (tmp_path / "bundle").exists()


def test_the_recipes_defaults_are_accepted(request):
    for name in ("tiny", "image_to_video"):
        config = load_config(request.config.rootpath / "recipes" / name / "bundle.yaml")
        check(replace(config, adapters={}))  # whose files the recipe makes first
