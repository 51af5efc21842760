"""Dataclasses from dicts: every unknown key, wrong type and impossible value is named with its path."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable

from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.files import expand
from hunyuan_video.rules import FINITE, Rule
from hunyuan_video.training.config.yaml_file import WrittenFloat, WrittenInt, plain

T = typing.TypeVar("T")
SWITCHES = {"on": True, "yes": True, "off": False, "no": False}


def path(default: str) -> typing.Any:
    """A field that holds a path: `~` and `$NAME` in it are read as a shell would."""
    return dataclasses.field(default=default, metadata={"path": True})


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean ...?" where something known is close to a name."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def build(cls: type[T], raw: dict[str, typing.Any], where: str) -> T:
    """A dataclass instance from a dict; errors carry `where`, the path to the offending key."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # T is a dataclass
    known = {f.name: hint for f, hint in zip(fields, typing.get_type_hints(cls).values(), strict=True)}
    described = {f.name: f.metadata for f in fields}
    values: dict[str, typing.Any] = {}
    for key, value in raw.items():
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}{nearest(str(key), known)}; known keys: {', '.join(known)}")
        values[key] = coerce(known[key], value, f"{where}: {key}")
        if described[key].get("path"):
            values[key] = expand_all(values[key], f"{where}: {key}")
        check_value(values[key], described[key].get("rule", FINITE), f"{where}: {key}")
    try:
        return cls(**values)
    except UserError as error:  # of settings that do not go together
        raise UserError(f"{where}: {error}") from None


def check_value(value: typing.Any, rule: Rule, where: str) -> None:
    """UserError where a setting, or an entry of its list, breaks its rule. where: path to its key."""
    for entry in value if isinstance(value, tuple) else (value,):
        number = isinstance(entry, int | float) and not isinstance(entry, bool)
        if number or isinstance(entry, str) and rule.type is str:
            try:
                rule.check(where, entry)
            except ArgumentError as error:
                raise UserError(str(error)) from None


def check_model(model: dict, config: type, where: str = "model") -> None:
    """UserError where `model` holds no fields of a model's config, or sizes that contradict each other."""
    try:
        build(config, model, where)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from None


def expand_all(value: typing.Any, where: str) -> typing.Any:
    """A path, or a dict or list of them, expanded."""
    if isinstance(value, dict):
        return {name: expand_all(entry, f"{where}: {name}") for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(expand_all(entry, where) for entry in value)
    try:
        return expand(value) if isinstance(value, str) else value
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def coerce(hint: typing.Any, value: typing.Any, where: str) -> typing.Any:
    """Check one value against its type hint (int is accepted for float, lists for tuples)."""
    origin = typing.get_origin(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise UserError(f"{where} must be a section of keys, got {value!r}")
        return build(hint, value, where)
    if origin is types.UnionType:  # "float | None"
        return None if value is None else coerce(typing.get_args(hint)[0], value, where)
    if origin is tuple:
        items = typing.get_args(hint)
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where} must be a list, got {value!r}")
        if items[-1] is not ... and len(value) != len(items):
            raise UserError(f"{where} must have {len(items)} entries, got {list(value)}")
        return tuple(coerce(items[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as a string
        except ValueError:
            pass
    if hint is bool and isinstance(value, str) and value.lower() in SWITCHES:
        return SWITCHES[value.lower()]
    if hint is str and isinstance(value, (WrittenInt, WrittenFloat)):
        return value.text
    known = isinstance(hint, type) and not isinstance(hint, types.GenericAlias)
    if known and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return plain(value)
    raise UserError(f"{where} must be {getattr(hint, '__name__', hint)}, got {value!r}{_advice(hint, value)}")


def _advice(hint: typing.Any, value: typing.Any) -> str:
    """Advice where YAML reads something else than the eye."""
    if hint is str and (value is None or isinstance(value, (bool, int, float))):
        return f"; put it in quotes: '{'~' if value is None else str(value).lower()}'"
    if hint is int and isinstance(value, str) and value.lstrip("+-").isdigit():
        return "; write it without the leading zero"
    return ""
