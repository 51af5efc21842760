"""The language of the source tree: docstrings begin with a noun or a verb, and variables have the name of the thing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("hunyuan_ext", "python", "benchmarks", "tests")
QUESTIONS = ("Of ", "Those ", "Where ", "Whether ", "What ", "How ")
EMPTY_NAMES = {"said", "mine", "told", "facts"}


def faults(tree: ast.AST) -> Iterator[str]:
    """Docstrings that begin with one of `QUESTIONS`; variables and parameters of `EMPTY_NAMES`."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node) or ""
            if text.startswith(QUESTIONS):
                yield f"{getattr(node, 'lineno', 1)} docstring begins with {text.split()[0]!r}"
        elif isinstance(node, ast.arg) and node.arg in EMPTY_NAMES:
            yield f"{node.lineno} parameter {node.arg}"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in EMPTY_NAMES:
            yield f"{node.lineno} variable {node.id}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_and_names_are_plain_english(folder):
    paths = sorted((ROOT / folder).rglob("*.py"))
    wrong = [f"{path.relative_to(ROOT)}:{fault}" for path in paths for fault in faults(ast.parse(path.read_text()))]
    assert paths and wrong == []


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ('"""What it does."""', 1),
        ('def f():\n    """Whether it does."""', 1),
        ('class A:\n    """Whatever it does."""', 0),
        ("def f(facts): ...", 1),
        ("lambda told: 1", 1),
        ("said = mine = 1", 2),
        ("metadata = said", 0),
    ],
)
def test_the_rule_sees_what_it_forbids(code, count):
    assert len(list(faults(ast.parse(code)))) == count
