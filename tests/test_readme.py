"""The examples of README.md and of examples/ run, in two sampling steps, and say what they should.

A block runs unless a comment directly above it says why not: <!-- not run by the tests: REASON -->.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from helpers.blocks import blocks_of
from helpers.random_checkpoint import write_random_checkpoint

import hunyuan_ext
from hunyuan_video.checkpoints.layout import BUNDLED

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = blocks_of(ROOT / "README.md")
EXAMPLE_ARGUMENTS = {"grid.py": ["prompts.txt", "grid.gif"], "batch.py": ["."]}


@pytest.fixture(scope="module")
def quick_checkpoint(tmp_path_factory) -> Path:
    """The bundled checkpoint with two sampling steps; one with random weights where it is absent."""
    folder = tmp_path_factory.mktemp("checkpoint")
    bundled = BUNDLED["tiny"]
    if not (bundled / "model_index.json").exists():
        return write_random_checkpoint(folder)
    for entry in bundled.iterdir():
        (folder / entry.name).symlink_to(entry)
    (folder / "sampling.json").unlink()
    settings = json.loads((bundled / "sampling.json").read_text(encoding="utf-8"))
    for values in (settings, *settings["adapters"].values()):
        values["num_inference_steps"] = 2
    (folder / "sampling.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def workplace(tmp_path, monkeypatch, quick_checkpoint) -> Path:
    """An empty working folder in which "tiny" is the quick checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["example.py"])
    monkeypatch.setitem(BUNDLED, "tiny", quick_checkpoint)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "prompts.txt").write_text("a red circle moves right\n")
    return tmp_path


def run_python(code: str, name: str) -> None:
    exec(compile(code, name, "exec"), {"__name__": "__main__"})


def test_blocks_are_found():
    assert {block.language for block in BLOCKS if block.runs} == {"sh", "python"}


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.runs], ids=str)
def test_readme_block_runs(block, workplace):
    block.run()


def test_python_blocks_that_need_weights_compile():
    for block in BLOCKS:
        if block.language == "python":
            compile(block.code, str(block), "exec")


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example_runs(path, workplace, monkeypatch):
    monkeypatch.setattr(sys, "argv", [path.name, *EXAMPLE_ARGUMENTS.get(path.name, [])])
    run_python(path.read_text(encoding="utf-8"), str(path))
    assert {entry.name for entry in workplace.iterdir()} - {"recipes", "prompts.txt"}, "an example writes a file"


def test_table_of_operations_is_what_doctor_says():
    report = hunyuan_ext.capabilities()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert sorted(name for name, _ in rows) == sorted(report["ops"])
    if not report["build"]["native"] or report["machine"]["isa"] == "scalar":
        pytest.skip("the table is about a machine with AVX2 and a built extension")
    for name, cell in rows:  # "a, or b": by processor
        assert report["ops"][name]["cpu"]["float32"]["implementation"] in cell.split(", or "), name


def test_the_readme_can_be_read_in_one_sitting_and_names_the_path():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 250
    assert "source .venv/bin/activate" in text and "`.venv/bin/hunyuan-video`" in text


def test_links_lead_to_files():
    broken = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not os.path.exists(page.parent / target):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []
