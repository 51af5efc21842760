"""Settings of a run beside its checkpoints (`resolved.json`), and what has changed when the run is continued."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hunyuan_video.errors import UserError
from hunyuan_video.files import write_json
from hunyuan_video.training.config import LoopConfig, OptimizerConfig

FILE = "resolved.json"
# What the weights mean: with another value they are another network's.
FIXED = ("kind", "model", "image_condition", "lora", "method", "rank", "targets", "fake_rank")
# What a run may change at any time; `loop`: its seed and sizes are told by the loop itself.
FREE = (
    "output", "loop", "workers", "eval_prompts", "sample_steps", "cfg_scale", "eval_scale", "report_scales",
    "report_prompts", "held_out",
)  # fmt: skip
SHOWN = 60  # characters of a value


def resolved(task: Any, loop: LoopConfig, optimizer: OptimizerConfig) -> dict[str, Any]:
    """The settings of a run with all defaults, as JSON, and what its data hold."""
    config = getattr(task, "config", None)
    content = dataclasses.asdict(config) if config is not None else {}
    content |= {"loop": dataclasses.asdict(loop), "optimizer": dataclasses.asdict(optimizer)}
    return json.loads(json.dumps({**content, "contents": getattr(task, "contents", "")}))


def check_resumed(folder: Path, now: dict[str, Any], note: Callable[[str], None]) -> None:
    """Tells each setting that is not what it was; UserError for one that the weights depend on.

    Runs of versions that kept no settings are continued without a word.
    """
    try:
        before = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return
    for key, was, value in changes(before, now):
        top = key.split(".")[0]
        text = f"{key} was {_short(was)} when the run began and is {_short(value)} now"
        if top in FIXED:
            raise UserError(
                f"{folder}: {text}: its weights would mean something else; set it back, or start a new run from the "
                "export with init_from"
            )
        if key == "contents":
            note(
                f"note: {folder}: the data set holds other clips or captions than when the run began; the order is new"
            )
        elif top not in FREE:
            note(f"note: {text}; the run goes on with it")


def keep(folder: Path, now: dict[str, Any]) -> None:
    write_json(folder / FILE, now)


def changes(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path to the setting, value before, value now) of those that differ; new settings of a later version are none."""
    for key in sorted(before.keys() & now.keys()):
        was, value = before[key], now[key]
        if isinstance(was, dict) and isinstance(value, dict) and was and value:
            yield from changes(was, value, f"{prefix}{key}.")
        elif was != value:
            yield prefix + key, was, value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
