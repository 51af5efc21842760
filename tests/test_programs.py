"""Programs beside the packages (recipes, examples, benchmarks) import names that are where they look for them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"hunyuan_video": ROOT / "python", "hunyuan_ext": ROOT, "benchmarks": ROOT, "helpers": ROOT / "tests"}
OTHER_CHECKOUTS = {"_backend", "_cuda", "_direct", "_native", "fp8"}  # what benchmarks/dispatch.py races was named so
PROGRAMS = sorted(path for folder in ("recipes", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def module_file(name: str) -> Path | None:
    path = SOURCES[name.split(".")[0]].joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def names_of(file: Path) -> frozenset[str]:
    """All names that a module binds anywhere outside functions, and keys of a table of lazily loaded ones."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and file.name == "__init__.py":
            names.add(node.value)
    return frozenset(names)


def missing(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            wanted = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            wanted = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in wanted:
            if module.split(".")[0] not in SOURCES:
                continue
            file = module_file(module)
            if file is None and not SOURCES[module.split(".")[0]].joinpath(*module.split(".")).is_dir():
                yield module
            elif name and not (file and name in names_of(file)) and module_file(f"{module}.{name}") is None:
                yield f"{module}.{name}"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_where_a_program_looks_for_them(path):
    expected = {f"hunyuan_ext.{name}" for name in OTHER_CHECKOUTS if path.name == "dispatch.py"}
    assert set(missing(path.read_text())) == expected


def test_a_name_that_moved_is_seen():
    lines = ("from hunyuan_video.checkpoints.pipeline import read_grid", "import hunyuan_video.nothing",
             "from hunyuan_video import HunyuanVideoPipeline", "from hunyuan_ext import linear")  # fmt: skip
    assert [list(missing(line)) for line in lines] == [
        ["hunyuan_video.checkpoints.pipeline.read_grid"], ["hunyuan_video.nothing"], [], []
    ]  # fmt: skip
