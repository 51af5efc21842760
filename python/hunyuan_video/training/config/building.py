"""Dataclasses from dicts: every unknown key, wrong type and impossible value is named with its path."""

from __future__ import annotations

import dataclasses
import types
import typing

from hunyuan_video.errors import UserError
from hunyuan_video.training.config.limits import check_value


def build(cls, raw: dict, where: str):
    """A dataclass instance from a dict; errors carry `where`, the path to the offending key."""
    known = {f.name: hint for f, hint in zip(dataclasses.fields(cls), typing.get_type_hints(cls).values(), strict=True)}
    values = {}
    for key, value in raw.items():
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}; known keys: {', '.join(known)}")
        values[key] = coerce(known[key], value, f"{where}: {key}")
        check_value(key, values[key], f"{where}: {key}")
    try:
        return cls(**values)
    except UserError as error:  # of settings that do not go together
        raise UserError(f"{where}: {error}") from None


def check_model(model: dict, config: type, where: str = "model") -> None:
    """UserError where `model` holds no fields of a model's config, or sizes that contradict each other."""
    try:
        build(config, model, where)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def coerce(hint, value, where: str):
    """Check one value against its type hint (int is accepted for float, lists for tuples)."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
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
    plain = isinstance(hint, type) and not isinstance(hint, types.GenericAlias)
    if plain and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UserError(f"{where} must be {getattr(hint, '__name__', hint)}, got {value!r}")
