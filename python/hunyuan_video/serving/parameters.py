"""Parameters of a video request: those of the OpenAI API, and every argument of a sampling run, from its declaration.

A field of `SampleRequest` with a flag is a parameter here, with the same name, bounds and default; nothing of it is
declared again. Texts of a form become the argument's type.
"""

from __future__ import annotations

import difflib
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hunyuan_video.errors import ArgumentError
from hunyuan_video.models.grid import Grid
from hunyuan_video.rules import Choice, Count, Levels, Method, Number
from hunyuan_video.sampling.request import (
    ARGUMENTS,
    Argument,
    SamplingDefaults,
    Settings,
    check_argument,
    check_prompts,
    resolve_settings,
)
from hunyuan_video.serving.problems import Problem

# Arguments of a run that the server itself decides on.
OWN = ("image", "video", "strength", "num_videos_per_prompt", "checkpoint_to", "checkpoint_every")
EXTENSIONS: dict[str, Argument] = {
    name: known for name, known in ARGUMENTS.items() if known.flag is not None and name not in OWN
}
OPENAI = ("prompt", "model", "seconds", "size", "input_reference")
KNOWN = (*OPENAI, *EXTENSIONS, "loras")
MAX_TEXT = 32_768  # characters
MAX_LORAS = 8
MAX_LORA_WEIGHT = 100.0


@dataclass
class VideoRequest:
    """A checked request: what to sample."""

    prompt: str
    arguments: dict[str, Any]  # of a SampleRequest, those that were given, and the seed
    settings: Settings  # all numbers, the model's defaults filled in
    loras: list[tuple[str, float]] = field(default_factory=list)  # names of the allow-list and weights
    seconds: str | None = None  # as given


def read_video_request(
    values: Mapping[str, Any], defaults: SamplingDefaults, grid: Grid, model: str, loras: Mapping[str, Any]
) -> VideoRequest:
    """Checks the values of a request (JSON types, or texts of a form); Problem or ArgumentError for wrong ones."""
    for name in values:
        if name not in KNOWN:
            raise Problem(400, f"unknown parameter: {name[:80]!r}{_hint(name)}", code="unknown_parameter", param=name)
    prompt = checked_text("prompt", values.get("prompt"))
    if prompt is None:
        raise Problem(400, "prompt is missing; say in a sentence what the video shows", param="prompt", code="missing")
    prompt = check_prompts("prompt", prompt)[0]
    asked = checked_text("model", values.get("model"))
    if asked is not None and asked != model:
        raise Problem(
            400, f"model {asked[:80]!r} is not served here; use {model!r}", code="model_not_found", param="model"
        )
    arguments = {name: value for name in EXTENSIONS if (value := _argument(name, values.get(name))) is not None}
    arguments |= _size(values.get("size"), arguments)
    seconds = _seconds(values.get("seconds"))
    if seconds is not None:
        if "num_frames" in arguments:
            raise Problem(400, "give seconds or num_frames, not both", code="invalid_value", param="seconds")
        arguments["num_frames"] = frames_of(float(seconds), defaults.fps, grid)
    if "seed" not in arguments:
        arguments["seed"] = random.SystemRandom().randrange(2**31)
    settings = resolve_settings(arguments, defaults, grid)
    return VideoRequest(prompt, arguments, settings, _loras(values.get("loras"), loras), seconds)


def frames_of(seconds: float, fps: float, grid: Grid) -> int:
    """Number of frames that lasts closest to `seconds` and that the model can make."""
    return max(round((seconds * fps - 1) / grid.temporal), 0) * grid.temporal + 1


def checked_text(name: str, value: Any) -> str | None:
    """A text that can be stored and shown; Problem for one with NUL or half a character, or too long."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise Problem(400, f"{name} must be text, got {_kind(value)}", code="invalid_type", param=name)
    if len(value) > MAX_TEXT:
        text = f"{name} has {len(value)} characters; the limit is {MAX_TEXT}"
        raise Problem(400, text, code="invalid_value", param=name)
    if "\0" in value or not _encodable(value):
        text = f"{name} must be valid Unicode without NUL characters"
        raise Problem(400, text, code="invalid_value", param=name)
    return value


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}
    return names.get(type(value), "a file")


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name, KNOWN, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _argument(name: str, value: Any) -> Any:
    """A value of the argument's type, None where it is left out."""
    kind = EXTENSIONS[name].flag
    if value is None or (value == "" and name != "negative_prompt"):
        return None
    if isinstance(EXTENSIONS[name].rule, Levels):
        return list(check_argument(name, _levels(name, value)))
    if kind is str:
        value = checked_text(name, value)
    elif isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise Problem(400, f"{name} must be a number, got {_kind(value)}", code="invalid_type", param=name)
    elif kind is int:
        value = _whole(name, value)
    else:
        value = _number(name, value)
    return check_argument(name, _seed(value) if name == "seed" else value)


def _levels(name: str, value: Any) -> list[float]:
    """Numbers of a list, or of a text with commas between them."""
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list) or any(isinstance(entry, (bool, list, dict, type(None))) for entry in entries):
        raise Problem(400, f"{name} must be a list of numbers", code="invalid_type", param=name)
    return [_number(name, entry) for entry in entries]


def _seed(value: Any) -> int:
    if not 0 <= value < 2**63:  # what JSON's and SQLite's integers hold
        raise ArgumentError(f"seed must be between 0 and 2**63 - 1, got {str(value)[:40]}")
    return value


def _whole(name: str, value: int | float | str) -> int:
    number = _number(name, value) if not isinstance(value, int) else value
    if number != int(number):
        raise Problem(400, f"{name} must be a whole number, got {value}", code="invalid_value", param=name)
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,40}\s*", value):
        return int(value)  # all digits: a float holds only 53 bits
    return int(number)


def _number(name: str, value: int | float | str) -> float:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        text = f"{name} must be a finite number, got {str(value)[:80]!r}"
        raise Problem(400, text, code="invalid_value", param=name)
    return number


def _size(value: Any, arguments: Mapping[str, Any]) -> dict[str, int]:
    """{"width", "height"} of "1280x720"."""
    text = checked_text("size", value)
    if not text:
        return {}
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if found is None:
        text = f"size must be WIDTHxHEIGHT in pixels, such as 1280x720, got {text[:80]!r}"
        raise Problem(400, text, code="invalid_value", param="size")
    if "width" in arguments or "height" in arguments:
        raise Problem(400, "give size, or width and height, not both", code="invalid_value", param="size")
    return {"width": int(found[1]), "height": int(found[2])}


def _seconds(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise Problem(400, f"seconds must be a number, got {_kind(value)}", code="invalid_type", param="seconds")
    number = _number("seconds", value)
    if not 0 < number <= 86_400:
        raise Problem(
            400, f"seconds must be above 0 and at most 86400, got {number:g}", code="invalid_value", param="seconds"
        )
    return f"{number:g}"


def _loras(value: Any, known: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(name, weight) for each of "a:0.8,b", ["a:0.8", "b"] or [{"name": "a", "weight": 0.8}]; the names are known."""
    if value is None or value == "":
        return []
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list) or len(entries) > MAX_LORAS:
        raise Problem(400, f"loras must be a list of at most {MAX_LORAS} names", code="invalid_type", param="loras")
    found = [_lora(entry) for entry in entries]
    for name, _ in found:
        if name not in known:
            text = f"no LoRA {name[:80]!r} here; there are: {', '.join(sorted(known)) or 'none'}"
            raise Problem(400, text, code="invalid_value", param="loras")
    if len({name for name, _ in found}) != len(found):
        raise Problem(400, "loras has a name twice", code="invalid_value", param="loras")
    return found


def _lora(entry: Any) -> tuple[str, float]:
    if isinstance(entry, str):
        head, colon, tail = entry.strip().rpartition(":")
        entry = {"name": head, "weight": tail} if colon else {"name": tail}
    if not isinstance(entry, dict) or not set(entry) <= {"name", "weight"}:
        text = 'an entry of loras is a name, "name:weight" or {"name", "weight"}'
        raise Problem(400, text, code="invalid_type", param="loras")
    name = checked_text("loras", entry.get("name"))
    weight = entry.get("weight", 1.0)
    if name is None or isinstance(weight, (bool, list, dict)) or weight is None:
        raise Problem(400, "an entry of loras needs a name and, if any, a number as weight", param="loras")
    number = _number("loras: weight", weight)
    if abs(number) > MAX_LORA_WEIGHT:
        raise Problem(400, f"loras: weight must be within +-{MAX_LORA_WEIGHT:g}", code="invalid_value", param="loras")
    return name, number


def json_schema() -> dict[str, Any]:
    """JSON schema of a create request, for the API's description."""
    properties: dict[str, Any] = {
        "prompt": {"type": "string", "maxLength": MAX_TEXT},
        "model": {"type": "string"},
        "seconds": {"type": "string", "description": "length; the nearest that the model can make"},
        "size": {"type": "string", "pattern": "^[0-9]{1,5}x[0-9]{1,5}$", "description": "WIDTHxHEIGHT"},
        "loras": {
            "type": "array",
            "items": {"type": "string"},
            "maxItems": MAX_LORAS,
            "description": "name or name:weight",
        },
    }
    for name, known in EXTENSIONS.items():
        properties[name] = {**_rule_schema(known), "description": " ".join(filter(None, (known.help, known.unit)))}
    return {"type": "object", "properties": properties, "required": ["prompt"], "additionalProperties": False}


def _rule_schema(known: Argument) -> dict[str, Any]:
    rule = known.rule
    if isinstance(rule, Count):
        return {"type": "integer", "minimum": 1, "maximum": rule.most}
    if isinstance(rule, Number):
        low = {"exclusiveMinimum" if rule.above else "minimum": rule.low} if math.isfinite(rule.low) else {}
        return {"type": "number", **low, **({"maximum": rule.high} if math.isfinite(rule.high) else {})}
    if isinstance(rule, Levels):
        return {"type": "array", "items": {"type": "number"}, "maxItems": rule.most + 1}
    if isinstance(rule, Choice):
        return {"type": "string", "enum": list(rule.choices)}
    if isinstance(rule, Method):
        words = "|".join(word for word, _ in rule.usual)
        return {"type": "string", "pattern": f"^({rule.off}|({words})(:.+)?)$"}
    names: dict[Any, str] = {int: "integer", float: "number"}
    return {"type": names.get(known.flag, "string")}
