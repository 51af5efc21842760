"""Reading run configurations: every unknown key or wrong type is named with its path."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path

import yaml

from hunyuan_video.errors import UserError
from hunyuan_video.training.config.distillation import GuidanceDistillationRun, StepDistillationRun
from hunyuan_video.training.config.flow import EncodedFlowRun, FlowRun, StagesRun
from hunyuan_video.training.config.other import BundleRun, SequenceRun, TextRun
from hunyuan_video.training.config.vae import VAERun, VAEStagesRun

KINDS: dict[str, type] = {
    "vae": VAERun,
    "vae_stages": VAEStagesRun,
    "flow": FlowRun,
    "flow_encoded": EncodedFlowRun,
    "guidance_distillation": GuidanceDistillationRun,
    "step_distillation": StepDistillationRun,
    "text": TextRun,
    "bundle": BundleRun,
    "sequence": SequenceRun,
    "stages": StagesRun,
}


def read_yaml(path: str | Path):
    """The content of a YAML file. Raises UserError where it is missing or not YAML."""
    try:
        return yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot read the configuration ({error.strerror}); give a YAML file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def load_config(path: str | Path, overrides: tuple[str, ...] = ()):
    """Read a YAML run configuration; overrides are "a.b=value" strings with YAML values.

    Raises UserError naming file, key and reason for a missing file, bad YAML, unknown keys or wrong types.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict) or raw.get("kind") not in KINDS:
        raise UserError(
            f"{path}: kind must be one of {', '.join(KINDS)}, got {raw.get('kind') if isinstance(raw, dict) else raw!r}"
        )
    for item in overrides:
        key, found, value = item.partition("=")
        if not found:
            raise UserError(f"--set {item}: write key=value, for example loop.steps=100")
        *parents, leaf = key.split(".")
        place = raw
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"--set {item}: {parent} is a value, not a section")
        place[leaf] = yaml.safe_load(value)
    return build(KINDS[raw["kind"]], raw, str(path))


def build(cls, raw: dict, where: str):
    """A dataclass instance from a dict; errors carry `where`, the path to the offending key."""
    known = {f.name: hint for f, hint in zip(dataclasses.fields(cls), typing.get_type_hints(cls).values(), strict=True)}
    values = {}
    for key, value in raw.items():
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}; known keys: {', '.join(known)}")
        values[key] = coerce(known[key], value, f"{where}: {key}")
    return cls(**values)


def coerce(hint, value, where: str):
    """Check one value against its type hint (int is accepted for float, lists for tuples)."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise UserError(f"{where} must be a section of keys, got {value!r}")
        return build(hint, value, where)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where} must be a list, got {value!r}")
        return tuple(coerce(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as a string
        except ValueError:
            pass
    plain = isinstance(hint, type) and not isinstance(hint, types.GenericAlias)
    if plain and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UserError(f"{where} must be {getattr(hint, '__name__', hint)}, got {value!r}")
