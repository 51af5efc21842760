"""The language of the source tree: docstrings begin with a noun or a verb, variables have the name of the thing, and
the spelling is American.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("hunyuan_ext", "python", "benchmarks", "tests")
QUESTIONS = ("Of ", "Those ", "Where ", "Whether ", "What ", "How ")
EMPTY_NAMES = {"said", "mine", "told", "facts"}
BRITISH = re.compile(
    r"\w*(?:quantis|normalis|initialis|optimis|synchronis|serialis|organis|summaris|generalis|vectoris|standardis"
    r"|minimis|maximis|utilis|materialis|recognis|randomis|stabilis|visualis|parallelis[ei]|colour|behaviour|neighbour"
    r"|favour|honour|artefact|centre[ds]?\b|\bgrey)\w*",
    re.IGNORECASE,
)
PROSE = ("csrc", "hunyuan_ext", "python", "benchmarks", "docs", "README.md", "CONTRIBUTING.md")
SUFFIXES = {".py", ".md", ".c", ".h", ".cpp", ".hpp", ".cu", ".cuh"}
VOCABULARIES = ("data/toyworld/", "training/text/words.py")  # words of prompts


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


@pytest.mark.parametrize("place", PROSE)
def test_spelling_is_american(place):
    """But for words that users may write in a prompt."""
    root = ROOT / place
    paths = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.suffix in SUFFIXES)
    wrong = [
        f"{path.relative_to(ROOT)}:{number} {word[0]}"
        for path in paths
        if not any(part in path.as_posix() for part in VOCABULARIES)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for word in BRITISH.finditer(line)
    ]
    assert paths and wrong == []


def test_the_spelling_rule_sees_what_it_forbids():
    text = "store_quantised Centre neighbouring grey; quantized, parallelism, center"
    assert [word[0] for word in BRITISH.finditer(text)] == ["store_quantised", "Centre", "neighbouring", "grey"]


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
