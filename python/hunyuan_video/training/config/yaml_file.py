"""YAML as people write it: no numbers to the base 60, no `on` for true, no key twice.

YAML 1.1, which PyYAML reads, takes 16:9 for 969, 010 for 8, `no` for false and 2026-11-28 for a date. Here those are
text; numbers remember how they were written, for settings that are text.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import yaml

from hunyuan_video.errors import UserError
from hunyuan_video.files import read_text
from hunyuan_video.training.config.recipes import recipe_names, recipe_path


class WrittenInt(int):
    """An integer, and how it was written."""

    text = ""


class WrittenFloat(float):
    """A number, and how it was written."""

    text = ""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars; a mapping names a key that it has twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise UserError(
                    f"line {line}: {key.value} is given a second time, first in line {lines[key.value]}; keep one"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def _number(loader: _Loader, node: yaml.ScalarNode) -> WrittenInt | WrittenFloat:
    text = node.value.replace("_", "")
    number: WrittenInt | WrittenFloat
    if re.fullmatch(r"[-+]?(0[xo][0-9a-fA-F]+|[0-9]+)", text):
        number = WrittenInt(int(text, 0))
    else:
        number = WrittenFloat(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    number.text = node.value
    return number


DIGITS = tuple("-+.0123456789")
DECIMAL = r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
SCALARS = {  # tag: (pattern, first characters)
    "null": (r"~|null|Null|NULL|", ("~", "n", "N", "")),
    "bool": (r"true|True|TRUE|false|False|FALSE", ("t", "T", "f", "F")),
    "int": (r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+)", DIGITS),
    "float": (rf"{DECIMAL}|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", DIGITS),
    "merge": (r"<<", ("<",)),
}
for tag, (pattern, first) in SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))
for tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{tag}", _number)


def parse_yaml(text: str) -> Any:
    """The content of a YAML text. Raises yaml.YAMLError, and UserError for a key given twice."""
    return yaml.load(text, _Loader)


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file, or of a recipe by its name. Raises UserError where it is missing or not YAML."""
    try:
        return parse_yaml(read_text(recipe_path(path)))
    except OSError as error:
        text = f"{path}: cannot read the configuration ({error.strerror}); give a YAML file"
        raise UserError(f"{text}, or a recipe's name: {', '.join(recipe_names())}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def as_yaml(config: Any) -> str:
    """A run's configuration with all its defaults, as a file that says the same."""
    content = json.loads(json.dumps(dataclasses.asdict(config)))  # tuples become lists
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110)


def plain(value: Any) -> Any:
    """The value with ordinary numbers."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(entry) for entry in value)
    if isinstance(value, WrittenInt):
        return int(value)
    return float(value) if isinstance(value, WrittenFloat) else value
