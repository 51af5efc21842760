"""Prompt suites: text, CSV and JSONL files, held-out prompts of a toyworld, and the prompts of an installed package."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hunyuan_video.data.toyworld import WORLDS
from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.evaluation.prompt_following import held_out_prompts
from hunyuan_video.files import read_list, read_table, read_text

SEED = 2026
HELD_OUT = 100  # prompts of a toyworld unless another number is asked for
TOYWORLD = "toyworld:"
VBENCH_FILE = "VBench_full_info.json"
TEXT_COLUMNS = ("prompt", "prompt_en")
ID_COLUMNS = ("id", "index")
CATEGORY_COLUMNS = ("category", "categories", "dimension")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")  # ids are names of files


@dataclass(frozen=True)
class Item:
    """A prompt of a suite. The seed is that of every system's video of it."""

    id: str  # a name of a file without its ending
    prompt: str
    seed: int
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """Prompts in their order, ids different without regard to case. world: of a toyworld's prompts."""

    name: str
    items: tuple[Item, ...]
    world: str | None = None

    def notes(self) -> list[str]:
        """Lines about repeated prompts: which are there twice, so that nobody counts them as two."""
        different = len({item.prompt for item in self.items})
        if different == len(self.items):
            return []
        return [f"{self.name}: {len(self.items)} prompts, {different} different; equal ones have seeds of their own"]


def read_suite(source: str, *, limit: int | None = None, seed: int = SEED) -> Suite:
    """A suite by its name (toyworld:WORLD[:COUNT] or vbench) or file (.txt, .csv, .jsonl).

    limit: only the first so many prompts. seed: of the first prompt, the next ones count on; a file's own `seed` wins.
    Raises UserError: a file with other columns, without prompts, or with two equal ids.
    """
    if limit is not None and limit < 1:
        raise ArgumentError(f"--limit must be at least 1, got {limit}")
    if source.startswith(TOYWORLD):
        return _toyworld(source, limit, seed)
    if source == "vbench":
        rows, name = _vbench(), source
    else:
        rows, name = _file_rows(Path(source)), Path(source).name
    items = tuple(_items(rows, name, seed))[:limit]
    if not items:
        raise UserError(f"{source}: holds no prompt")
    return Suite(name, items)


def _toyworld(source: str, limit: int | None, seed: int) -> Suite:
    world, _, count = source.removeprefix(TOYWORLD).partition(":")
    if world not in WORLDS or not (count == "" or count.isdecimal() and int(count)):
        raise ArgumentError(
            f"suite {source!r}: write toyworld:WORLD or toyworld:WORLD:COUNT, with {' or '.join(WORLDS)}"
        )
    number = min(int(count or HELD_OUT), limit or int(count or HELD_OUT))
    _, prompts = held_out_prompts(world, number, seed)
    items = (Item(f"{i:04d}", prompt, seed + i) for i, prompt in enumerate(prompts))
    return Suite(source, tuple(items), world)


def _vbench() -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The entries of the package's list, read without importing it; its dimensions are the categories."""
    spec = importlib.util.find_spec("vbench")
    if spec is None or spec.origin is None:
        raise UserError("the suite vbench needs the package's list of prompts: pip install --no-deps vbench")
    file = Path(spec.origin).parent / VBENCH_FILE
    try:
        entries = json.loads(read_text(file))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not the list of prompts that vbench 0.1.5 has ({error})") from None
    for number, entry in enumerate(entries):
        yield f"entry {number}", {"prompt": entry["prompt_en"], "dimension": entry["dimension"]}


def _file_rows(path: Path) -> Iterable[tuple[str, Mapping[str, Any]]]:
    remedy = "a suite is a .txt, .csv or .jsonl file, toyworld:WORLD or vbench"
    ending = path.suffix.lower()
    if ending == ".csv":
        columns, rows = read_table(path, remedy)
        if not set(columns) & set(TEXT_COLUMNS):
            raise UserError(f"{path}: no column `prompt`, but {', '.join(columns) or 'nothing'}; name one so")
        return [(f"line {number}", row) for number, row in rows]
    if ending not in (".txt", ".jsonl"):
        raise UserError(f"{path}: {remedy}")
    lines = read_list(path, remedy)
    if ending == ".jsonl":
        return _json_rows(path, lines)
    return [(f"line {number}", {"prompt": line}) for number, line in lines]


def _json_rows(path: Path, lines: list[tuple[int, str]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in lines:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}: line {number} is no JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f'{path}: line {number} is no JSON object; write {{"prompt": "..."}}')
        yield f"line {number}", row


def _items(rows: Iterable[tuple[str, Mapping[str, Any]]], name: str, seed: int) -> Iterator[Item]:
    ids: dict[str, str] = {}
    for number, (place, row) in enumerate(rows):
        prompt = next((row[column] for column in TEXT_COLUMNS if column in row), None)
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError(f"{name}: {place} has no text in `prompt`")
        key = next((str(row[column]).strip() for column in ID_COLUMNS if column in row), f"{number:04d}")
        if not _NAME.fullmatch(key):
            raise UserError(f"{name}: {place}: id {key[:80]!r} is no name for a file; use letters, digits, - and _")
        if key.lower() in ids:
            raise UserError(f"{name}: {place} and {ids[key.lower()]} have one id, {key!r}")
        ids[key.lower()] = place
        own = row.get("seed", seed + number)
        if isinstance(own, str) and own.strip().isdecimal():
            own = int(own)
        if isinstance(own, bool) or not isinstance(own, int) or own < 0:
            raise UserError(f"{name}: {place}: seed must be a whole number of at least 0, got {own!r}")
        yield Item(key, prompt.strip(), own, _categories(row))


def _categories(row: Mapping[str, Any]) -> tuple[str, ...]:
    value = next((row[column] for column in CATEGORY_COLUMNS if row.get(column)), ())
    return (value,) if isinstance(value, str) else tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def suite_text(suite: Suite) -> str:
    """The suite as JSONL that `read_suite` reads, an item a line."""
    return "".join(json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in suite.items)
