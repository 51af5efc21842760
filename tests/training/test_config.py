"""Run configurations: what is read, and the one line each mistake gets."""

import pytest

from hunyuan_video.errors import UserError
from hunyuan_video.training.config import FlowRun, VAERun, load_config


def write(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_values_and_overrides(tmp_path):
    path = write(tmp_path, "kind: vae\nloop: {steps: 7}\noptimizer: {lr: 6e-4, betas: [0.9, 0.95]}\n")
    config = load_config(path, ("loop.batch=3", "world.name=full"))
    assert isinstance(config, VAERun)
    assert (config.loop.steps, config.loop.batch, config.world.name) == (7, 3, "full")
    assert config.optimizer.lr == 6e-4 and config.optimizer.betas == (0.9, 0.95)


def test_recipes_are_valid(request):
    recipes = request.config.rootpath / "recipes"
    for path in sorted([*recipes.glob("tiny/*.yaml"), *recipes.glob("image_to_video/*.yaml")]):
        load_config(path)


def test_flow_recipe_is_a_flow_run(request):
    assert isinstance(load_config(request.config.rootpath / "recipes" / "tiny" / "flow.yaml"), FlowRun)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: vea\n", ["kind", "vea"]),
        ("- 1\n", ["kind"]),
        ("kind: vae\nlopo: {}\n", ["lopo", "known keys", "loop"]),
        ("kind: vae\nloop: {stesp: 3}\n", ["loop", "stesp", "steps"]),
        ("kind: vae\nloop: {steps: many}\n", ["loop", "steps", "many"]),
        ("kind: vae\nloop: {steps: true}\n", ["steps", "True"]),
        ("kind: vae\nloop: 3\n", ["loop", "section"]),
        ("kind: vae\noptimizer: {betas: 3}\n", ["betas", "list"]),
        ("kind: vae\nloop: {steps: [}\n", ["YAML"]),
    ],
)
def test_mistakes_are_named(tmp_path, text, words):
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, text))
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_missing_file_and_bad_override(tmp_path):
    with pytest.raises(UserError, match="absent.yaml"):
        load_config(tmp_path / "absent.yaml")
    path = write(tmp_path, "kind: vae\noutput: here\n")
    with pytest.raises(UserError, match="key=value"):
        load_config(path, ("loop.steps",))
    with pytest.raises(UserError, match="not a section"):
        load_config(path, ("output.steps=3",))
