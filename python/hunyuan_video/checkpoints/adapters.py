"""Adapters that come with a checkpoint: `adapters/NAME.safetensors`, one of which may be the default.

sampling.json names it (`"adapter": NAME`) and, under `"adapters": {NAME: {...}}`, the sampling defaults that go with
each. A step-distilled student ships this way: the teacher's weights and a small file; "none" is the teacher.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hunyuan_video.checkpoints.layout import ADAPTERS
from hunyuan_video.errors import UserError, notify

if TYPE_CHECKING:
    from hunyuan_video.models import HunyuanVideoTransformer

NONE = "none"
ADAPTER_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
FOLDER_FILES = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors", "adapter_model.bin")


def adapter_name(values: dict[str, Any], requested: str | None) -> str:
    """Which adapter to use: the one asked for, else the default of a checkpoint's sampling.json, else "none"."""
    return str(values.get("adapter", NONE)) if requested is None else requested


def adapter_defaults(folder: Path, values: dict[str, Any], requested: str | None) -> dict[str, Any]:
    """A sampling.json's values, with those of the adapters that are used in the place of the plain model's.

    An adapter's are those that the sampling.json has for its name, else those in its file's header.
    """
    from hunyuan_video.checkpoints.lora_file import AdapterFile

    defaults_of = values.get("adapters", {})
    for name, _ in _listed(adapter_name(values, requested)):
        own = defaults_of[name] if name in defaults_of else AdapterFile(_file(folder, name)).settings
        values = {**values, **own}
    return values


def fast_settings(values: dict[str, Any], requested: str | None) -> dict[str, Any] | None:
    """The entry "fast" that a sampling.json has for the adapter that is used: settings that take less time, and how
    they were "measured". None where it has none, or several adapters are used.
    """
    names = [name for name, _ in _listed(adapter_name(values, requested))]
    if not names:
        return values.get("fast")
    return values.get("adapters", {}).get(names[0], {}).get("fast") if len(names) == 1 else None


def adapter_files(folder: Path, values: dict[str, Any], requested: str | None) -> list[tuple[Path, float]]:
    """The files of the adapters to use and their weights; a name is one of the checkpoint's.

    requested: "none", or NAME, FILE.safetensors or FOLDER, each with :WEIGHT or alone, several joined by commas.
    """
    return [(_file(folder, name), weight) for name, weight in _listed(adapter_name(values, requested))]


def adapter_notes(folder: Path, values: dict[str, Any], requested: str | None) -> list[str]:
    """One line for each adapter that was asked for: what its file holds and its strength."""
    from hunyuan_video.checkpoints.lora import adapter_summary

    files = adapter_files(folder, values, requested)
    if requested is None:
        return []
    return [
        f"adapter {adapter_summary(path)}" + (f", used at {weight:g}" if weight != 1 else "") for path, weight in files
    ]


def warn_displaced(folder: Path, values: dict[str, Any], requested: str | None) -> None:
    """A Notice where the adapters that are asked for take the place of the checkpoint's default one."""
    default = str(values.get("adapter", NONE))
    if requested in (None, NONE) or default == NONE:
        return
    if default not in (path.stem for path, _ in adapter_files(folder, values, requested)):
        line = f"the checkpoint's own adapter {default} is not used; for both, the adapter is {default},{requested}"
        notify(line)


def _listed(text: str) -> list[tuple[str, float]]:
    if text == NONE:
        return []
    adapters = []
    for item in text.split(","):
        name, colon, number = item.strip().rpartition(":")
        try:
            weight = float(number) if colon else 1.0
        except ValueError:  # a colon of the file's name
            name, colon, weight = item.strip(), "", 1.0
        name = name if colon else item.strip()
        if not name or not math.isfinite(weight):
            raise UserError(f"adapter {text!r}: write NAME or FILE.safetensors, with :WEIGHT or alone, commas between")
        adapters.append((name, weight))
    return adapters


def _file(folder: Path, name: str) -> Path:
    path = folder / ADAPTERS / f"{name}.safetensors"
    if path.is_file():
        return path
    given = Path(name).expanduser()
    if given.is_dir():
        return _only_file(given)
    if given.suffix in ADAPTER_SUFFIXES:
        if not given.is_file():
            raise UserError(f"no adapter file {name}; give a .safetensors file, or {NONE!r}")
        return given
    if name == NONE:
        raise UserError(f"{NONE!r} is the plain model and stands alone, without other adapters")
    if ":" in name:
        raise UserError(f"no adapter {name!r}; what follows the colon is the weight, a number: NAME:0.8")
    known = sorted(file.stem for file in (folder / ADAPTERS).glob("*.safetensors"))
    raise UserError(f"{folder} has no adapter {name!r}; it has {', '.join([*known, NONE])}")


def _only_file(folder: Path) -> Path:
    """The adapter in a folder: the file that PEFT or diffusers would read, or the only one."""
    for name in FOLDER_FILES:
        if (folder / name).is_file():
            return folder / name
    files = sorted(file for file in folder.iterdir() if file.suffix == ".safetensors")
    if len(files) == 1:
        return files[0]
    if not files:
        raise UserError(f"the folder {folder} holds no adapter (.safetensors); give the file")
    raise UserError(
        f"the folder {folder} holds several files ({', '.join(f.name for f in files[:4])}); give one of them"
    )


def given_file(path: str | Path, name: str | None = None) -> Path:
    """The adapter file at a path, or in a folder, by name where it holds several; UserError where there is none."""
    given = Path(path).expanduser()
    if name is not None:
        given = given / name
    if given.is_dir():
        return _only_file(given)
    if not given.is_file():
        raise UserError(f"no adapter file {given}; give a .safetensors file, or the folder it is in")
    return given


def apply_adapters(transformer: HunyuanVideoTransformer, files: Sequence[tuple[Path, float]]) -> None:
    """Adds adapters to the weights for good: sampling then costs what it costs without.

    Beside FP8 weights they stay what they are, low-rank branches in the precision of the activations.
    """
    from hunyuan_video.checkpoints.lora import check_adapter_base, load_adapter
    from hunyuan_video.models.lora import merge_adapters, remove_adapters

    for path, _ in files:
        check_adapter_base(transformer, path)
    for number, (path, weight) in enumerate(files):
        load_adapter(transformer, path, f"adapter{number}", weight)
    merge_adapters(transformer)
    remove_adapters(transformer, keep_merged=True)
