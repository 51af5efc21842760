"""What a call asks for, checked before any work starts: one line per mistake, with the nearest value that works."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

from hunyuan_video.checkpoints.defaults import SamplingDefaults
from hunyuan_video.errors import ArgumentError
from hunyuan_video.flow import SOLVERS, default_shift
from hunyuan_video.models.grid import Grid

OUTPUT_TYPES = ("np", "pil", "pt", "latent")
VAE_MODES = ("auto", "plain", "tiled", "exact")
MAX_STEPS = 1000  # timesteps the model was trained on
MAX_TOKENS = 2**21  # video tokens of one clip: 17 times a 720p clip of 129 frames
MAX_VIDEOS = 1024
COUNTS = {  # name: largest value
    "height": 2**16,
    "width": 2**16,
    "num_frames": 2**16,
    "num_inference_steps": MAX_STEPS,
    "num_videos_per_prompt": MAX_VIDEOS,
}
FLOATS: dict[str, tuple[dict[str, Any], str]] = {  # name: (bounds for check_number, hint)
    "guidance_scale": ({"low": 0.0}, "the released model was distilled for 1 to 8"),
    "true_cfg_scale": ({"low": 1.0}, "1.0 switches classifier-free guidance off"),
    "guidance_rescale": ({"low": 0.0, "high": 1.0}, "0.0 switches it off"),
    "flow_shift": ({"low": 0.0, "above": True}, "the paper uses 7 at 50 steps, 17 below 20"),
}


@dataclass(frozen=True)
class Settings:
    """Every number that decides what the latents of a run become, besides prompts, noise and weights."""

    height: int
    width: int
    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    true_cfg_scale: float
    guidance_rescale: float
    flow_shift: float
    solver: str
    num_videos_per_prompt: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def resolve_settings(given: Mapping[str, Any], defaults: SamplingDefaults, grid: Grid) -> Settings:
    """Fills what was left out (None) from the checkpoint's defaults and checks the result; ArgumentError otherwise."""
    values: dict[str, Any] = {"num_videos_per_prompt": 1}
    for name in Settings.__dataclass_fields__:
        fallback = values.get(name, getattr(defaults, name, None))
        values[name] = fallback if given.get(name) is None else given[name]
    for name, most in COUNTS.items():
        values[name] = check_count(name, values[name], most)
    check_sizes(values["num_frames"], values["height"], values["width"], grid)
    if values["flow_shift"] is None:
        values["flow_shift"] = default_shift(values["num_inference_steps"])
    for name, (bounds, hint) in FLOATS.items():
        values[name] = check_number(name, values[name], **bounds, hint=hint)
    check_choice("solver", values["solver"], tuple(SOLVERS))
    return Settings(**values)


def check_prompts(name: str, value: str | Sequence[str] | None) -> list[str]:
    """A prompt or list of prompts as a list of stripped strings; ArgumentError for empty ones and other types."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)) or not value:
        raise ArgumentError(f"{name} must be a sentence or a list of sentences, got {value!r}")
    for prompt in value:
        if not isinstance(prompt, str):
            raise ArgumentError(f"{name} must be text, got {type(prompt).__name__} {prompt!r}")
    stripped = [prompt.strip() for prompt in value]
    if name == "prompt" and not all(stripped):
        raise ArgumentError("prompt is empty; say in a sentence what the video shows")
    return stripped


def check_number(
    name: str, value: Any, *, low: float = -math.inf, high: float = math.inf, above: bool = False, hint: str = ""
) -> float:
    """The value as a float; ArgumentError unless it is a finite number in [low, high], or (low, high] with `above`."""
    end = f" ({hint})" if hint else ""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentError(f"{name} must be a number, got {value!r}{end}")
    number = float(value)
    if not math.isfinite(number):
        raise ArgumentError(f"{name} must be a finite number, got {number}{end}")
    if number < low or number > high or (above and number == low):
        wanted = f"{'more than' if above else 'at least'} {low:g}" if math.isfinite(low) else ""
        wanted += f"{' and ' if wanted else ''}at most {high:g}" if math.isfinite(high) else ""
        raise ArgumentError(f"{name} must be {wanted}, got {number:g}{end}")
    return number


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ArgumentError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_count(name: str, value: Any, most: int) -> int:
    """The value as an int; ArgumentError unless it is a whole number between 1 and `most`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ArgumentError(f"{name} must be a whole number, got {value!r}")
    count = int(value)
    if not 1 <= count <= most:
        raise ArgumentError(f"{name} must be between 1 and {most}, got {count}")
    return count


def check_sizes(num_frames: int, height: int, width: int, grid: Grid) -> None:
    """ArgumentError, with the nearest sizes that work, unless the VAE and the patches divide them evenly."""
    for name, value in (("height", height), ("width", width)):
        if value % grid.multiple:
            nearest = nearest_valid(value, grid.multiple, 0, least=grid.multiple)
            raise ArgumentError(f"{name} must be a multiple of {grid.multiple} pixels, got {value}; nearest: {nearest}")
    if num_frames % grid.temporal != 1 % grid.temporal:
        nearest = nearest_valid(num_frames, grid.temporal, 1, least=1)
        raise ArgumentError(f"num_frames must be {grid.temporal}k + 1, got {num_frames}; nearest: {nearest}")
    if (tokens := grid.tokens(num_frames, height, width)) > MAX_TOKENS:
        raise ArgumentError(
            f"{num_frames} frames of {height}x{width} are {tokens} video tokens, more than {MAX_TOKENS}; "
            "lower num_frames, height or width"
        )


def nearest_valid(value: int, step: int, offset: int, least: int) -> str:
    """The valid numbers step * k + offset on both sides of `value`, as "13 or 17"."""
    below = value - (value - offset) % step
    return f"{below} or {below + step}" if below >= least else str(below + step)
