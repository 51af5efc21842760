"""Lines that end a run: where its weights and sheets are, how they are tried, what is saved of one that was stopped."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from hunyuan_video.checkpoints.layout import CONFIG
from hunyuan_video.files import read_optional_json

TRANSFORMERS = ("HunyuanVideoTransformer3DModel", "HYVideoDiffusionTransformer")


def closing_lines(folder: Path, checkpoint: str = "") -> Iterator[str]:
    """The last lines of a run in `folder`. checkpoint: the one whose other parts it was trained on."""
    export = folder / "export"
    if not export.is_dir():
        return
    adapters = [] if (export / CONFIG).exists() else sorted(export.glob("*.safetensors"))
    sheets = sorted((folder / "sheets").glob("*.*"))
    yield f"weights: {adapters[0] if adapters else export}" + (f"; newest sheet: {newest(sheets)}" if sheets else "")
    words = ["hunyuan-video", "sample", "PROMPT", *(["--model", checkpoint] if checkpoint else [])]
    if adapters:
        yield f"try: {shlex.join([*words, '--adapter', str(adapters[0])])}"
    elif read_optional_json(export / CONFIG, "export again").get("_class_name") in TRANSFORMERS:
        yield "to sample it, join it with its text encoders and VAE: a recipe of kind bundle, as tiny/bundle"


def newest(paths: list[Path]) -> Path:
    return max(paths, key=lambda path: (path.stat().st_mtime, path.name))


def saved_line(output: str, command: str) -> str:
    """Text for a run that was stopped: its newest checkpoint, or that there is none."""
    steps = [path for path in Path(output).glob("**/checkpoints/step_*") if path.name[5:].isdigit()]
    if not steps:
        return "interrupted; nothing was saved yet"
    return f"interrupted; {newest(steps)} is saved, continue with: {command}"
