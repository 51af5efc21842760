"""Recipes by their names, from any folder, and in the wheel; `tiny` wherever a checkpoint is wanted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hunyuan_video.checkpoints.layout import BUNDLED
from hunyuan_video.cli import main
from hunyuan_video.errors import UserError
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer
from hunyuan_video.training.config import load_config, read_yaml, recipe_path
from hunyuan_video.training.config.recipes import recipe_names
from hunyuan_video.training.parts import copy_text, load_text

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "name", ["tiny/flow", "tiny/flow.yaml", "recipes/tiny/flow.yaml", "image_to_video/tiny", "lora"]
)
def test_a_recipe_by_its_name_from_anywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    stem = name.removeprefix("recipes/").removesuffix(".yaml")
    assert recipe_path(name) == ROOT / "recipes" / f"{stem}.yaml"
    assert load_config(name) == load_config(ROOT / "recipes" / f"{stem}.yaml")


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/flow.yaml").write_text("kind: flow\noutput: mine\n")
    assert load_config("tiny/flow.yaml").output == "mine"
    with pytest.raises(UserError, match=r"tiny/flo: cannot read .* or a recipe's name: .*lora, .*tiny/flow, "):
        load_config("tiny/flo")


def test_every_recipe_can_be_checked_from_anywhere(tmp_path, monkeypatch, capsys):
    """A dry run needs nothing of the clone's folder: what a recipe reads is a name, or made by another."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", "image_to_video/tiny", "--dry-run"]) == 0
    assert "not there yet" not in capsys.readouterr().out
    assert main(["train", "tiny/all", "--dry-run"]) == 0
    assert main(["distill", "tiny/distill_dmd", "--dry-run"]) == 0
    for name in recipe_names():
        assert "python/" not in str(read_yaml(name)), name


def test_tiny_is_a_name_of_all_parts(tmp_path):
    bundled = BUNDLED["tiny"]
    assert CausalVAE.from_pretrained("tiny").config == CausalVAE.from_pretrained(bundled / "vae").config
    assert HunyuanVideoTransformer.from_pretrained("tiny").config.hidden_size == 160
    named, by_path = (load_text(folder)[0] for folder in ("tiny", bundled))
    assert named.text_length == by_path.text_length
    copy_text(Path("tiny"), tmp_path)
    assert (tmp_path / "text_encoder/config.json").read_bytes() == (bundled / "text_encoder/config.json").read_bytes()


def test_the_wheel_holds_every_recipe(tmp_path):
    pytest.importorskip("setuptools")
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "lib")]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "lib/hunyuan_video/recipes"
    assert (
        sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml")) == recipe_names()
    )
    script = "from hunyuan_video.training.config import recipe_path; print(recipe_path('tiny/flow'))"
    paths = {"PYTHONPATH": f"{tmp_path / 'lib'}:{ROOT}"}
    found = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=paths, capture_output=True, text=True)
    assert found.stdout.strip() == str(folder / "tiny/flow.yaml"), found.stderr
