"""Votes of a study: the CSV, and as arrays."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hunyuan_video.errors import UserError
from hunyuan_video.files import read_table, staged_file

QUESTIONS = ("text", "motion", "visual", "overall")
ANSWERS = {"left": 1, "same": 0, "right": -1}
COLUMNS = ("rater", "prompt", "left", "right", *QUESTIONS, "check")
VOTES_FILE = "votes.csv"


@dataclass(frozen=True)
class Votes:
    """N votes on pairs of videos of one prompt; indices are places in the lists of names."""

    raters: tuple[str, ...]
    prompts: tuple[str, ...]
    systems: tuple[str, ...]
    rater: np.ndarray  # int [N]
    prompt: np.ndarray  # int [N]
    left: np.ndarray  # int [N], the system on the left
    right: np.ndarray  # int [N]
    answers: Mapping[str, np.ndarray]  # question -> int [N]: 1 left is better, 0 same, -1 right is better

    def __len__(self) -> int:
        return len(self.rater)

    def where(self, chosen: np.ndarray) -> Votes:  # bool [N]
        """Some of the votes; the names stay."""
        answers = {question: values[chosen] for question, values in self.answers.items()}
        places = (self.rater[chosen], self.prompt[chosen], self.left[chosen], self.right[chosen])
        return Votes(self.raters, self.prompts, self.systems, *places, answers)


@dataclass(frozen=True)
class Checks:
    """Answers to pairs with a known loser: how many each rater gave, and how many were right."""

    given: Mapping[str, int]
    right: Mapping[str, int]


def read_votes(path: Path) -> tuple[Votes, Checks]:
    """Votes and answers to checks of a CSV with `COLUMNS`. UserError for other columns or values, or without votes."""
    remedy = "votes come from eval study serve or simulate"
    if not path.exists():
        raise UserError(f"cannot read the votes {path}: no such file; {remedy}")
    columns, rows = read_table(path, remedy)
    if missing := [name for name in COLUMNS if name not in columns]:
        raise UserError(f"{path}: no column {', '.join(missing)}; votes have {', '.join(COLUMNS)}")
    return _parsed(path, rows)


def _parsed(path: Path, rows: list[tuple[int, dict[str, str]]]) -> tuple[Votes, Checks]:
    given: dict[str, int] = {}
    right: dict[str, int] = {}
    votes = []
    for line, row in rows:
        if wrong := [name for name in QUESTIONS if row[name] not in ANSWERS]:
            raise UserError(f"{path}: line {line}: {wrong[0]} is {row[wrong[0]][:20]!r}; left, same or right")
        if row["check"] not in ("", "left", "right"):
            raise UserError(f"{path}: line {line}: check is {row['check'][:20]!r}; left, right or nothing")
        if row["left"] == row["right"] and not row["check"]:
            raise UserError(f"{path}: line {line}: {row['left'][:40]!r} against itself")
        if row["check"]:
            given[row["rater"]] = given.get(row["rater"], 0) + 1
            right[row["rater"]] = right.get(row["rater"], 0) + (row["overall"] == row["check"])
        else:
            votes.append(row)
    if not votes:
        raise UserError(f"{path}: holds no vote")
    return votes_of(votes), Checks(given, right)


def votes_of(rows: Iterable[Mapping[str, str]]) -> Votes:
    """Arrays of rows with `COLUMNS`."""
    rows = list(rows)
    names = {
        "raters": tuple(dict.fromkeys(row["rater"] for row in rows)),
        "prompts": tuple(dict.fromkeys(row["prompt"] for row in rows)),
        "systems": tuple(sorted({row[side] for row in rows for side in ("left", "right")})),
    }
    places = {kind: {name: i for i, name in enumerate(values)} for kind, values in names.items()}

    def column(name: str, kind: str) -> np.ndarray:
        return np.array([places[kind][row[name]] for row in rows])

    answers = {question: np.array([ANSWERS[row[question]] for row in rows]) for question in QUESTIONS}
    return Votes(
        **names, rater=column("rater", "raters"), prompt=column("prompt", "prompts"), left=column("left", "systems"),
        right=column("right", "systems"), answers=answers,
    )  # fmt: skip


def as_cell(text: str) -> str:
    """Text of a CSV cell that no program takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def write_votes(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Replaces a CSV by rows with `COLUMNS`."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: as_cell(row[name]) for name in COLUMNS} for row in rows)
    with staged_file(path) as file:
        file.write(buffer.getvalue().encode())
