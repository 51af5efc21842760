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


def test_every_number_of_a_run_has_to_be_finite(tmp_path):
    """Settings without a rule of their own, too, and those in lists."""
    for text in ("kind: flow\nt_mean: .inf\n", "kind: stages\nstages: [{images: .nan}]\n"):
        with pytest.raises(UserError, match="must be a finite number"):
            load_config(write(tmp_path, text))


def test_recipes_are_valid(request):
    recipes = request.config.rootpath / "recipes"
    for path in sorted([*recipes.glob("tiny*/*.yaml"), *recipes.glob("image_to_video/*.yaml")]):
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
        ("kind: vae\nloop: {batch: 0}\n", ["loop: batch must be at least 1", "0"]),
        ("kind: vae\nloop: {save_every: -1}\n", ["save_every must be at least 1"]),
        ("kind: vae\nloop: {precision: fp16}\n", ["precision must be one of bf16, fp32", "fp16"]),
        ("kind: vae\noptimizer: {lr: -1}\n", ["lr must be at least 0"]),
        ("kind: vae\noptimizer: {lr: .nan}\n", ["lr must be a finite number"]),
        ("kind: vae\noptimizer: {betas: [0.9]}\n", ["betas must have 2 entries"]),
        ("kind: vae\noptimizer: {betas: [0.9, 1.0]}\n", ["betas must be below 1, got [0.9, 1.0]"]),
        ("kind: vae\noptimizer: {clip: 0}\n", ["clip must be more than 0"]),
        ("kind: vae\ntrain: deocder\n", ["train must be one of all, decoder"]),
        ("kind: vae\nworld: {name: nowhere}\n", ["world: name must be", "narrow", "nowhere"]),
        ("kind: vae\nworld: {num_frames: 4}\n", ["4k + 1"]),
        ("kind: vae\ncrop: 640\n", ["crop 640", "larger"]),
        ("kind: flow\ntext_dropout: 2\n", ["text_dropout must be at least 0 and at most 1"]),
        ("kind: flow\nt_shift: 0\n", ["t_shift must be more than 0"]),
        ("kind: flow\nmodel: {hidden_sise: 3}\n", ["model", "hidden_sise", "hidden_size"]),
        ("kind: flow\nmodel: {hidden_size: x}\n", ["model: hidden_size must be int"]),
        ("kind: flow\nmodel: {hidden_size: 49}\n", ["model: hidden_size 49"]),
        ("kind: flow_encoded\nheld_out: -1\n", ["held_out must be at least 0"]),
        ("kind: stages\nstages: [{anchor_shares: [1, -1]}]\n", ["stages[0]: anchor_shares must be more than 0"]),
        ("kind: stages\nstages: [{name: a/b}]\n", ["stages[0]: name", "a/b"]),
        ("kind: stages\nstages: [{loop: {steps: 9}}]\n", ["stages[0]: loop: steps follows"]),
        ("kind: {}\n", ["kind must be one of"]),
    ],
)
def test_mistakes_are_named(tmp_path, text, words):
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, text))
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_file_that_is_no_text(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"kind: \xe9")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(path)


def test_missing_file_and_bad_override(tmp_path):
    with pytest.raises(UserError, match="absent.yaml"):
        load_config(tmp_path / "absent.yaml")
    path = write(tmp_path, "kind: vae\noutput: here\n")
    with pytest.raises(UserError, match="key=value"):
        load_config(path, ("loop.steps",))
    with pytest.raises(UserError, match="not a section"):
        load_config(path, ("output.steps=3",))
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(path, ("loop.steps=[1",))
    with pytest.raises(UserError, match="kind must be"):
        load_config(path, ("kind=vea",))


@pytest.mark.parametrize("kind", ["guidance_distillation", "step_distillation"])
def test_distillation_on_a_gpu_is_refused_by_name(tmp_path, kind):
    (tmp_path / "run.yaml").write_text(f"kind: {kind}\nloop: {{device: cuda}}\n")
    with pytest.raises(UserError, match=f"kind {kind} computes on the CPU only so far"):
        load_config(tmp_path / "run.yaml")
