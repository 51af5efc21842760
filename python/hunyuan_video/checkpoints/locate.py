"""From a path to an opened checkpoint: which file, layout and config; the tensors under their official names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hunyuan_video.checkpoints.comfy_quant import check_comfy_quant
from hunyuan_video.checkpoints.configs import CLASS_NAMES, Config, infer_config, parse_config
from hunyuan_video.checkpoints.gguf_file import GGUFFile
from hunyuan_video.checkpoints.keys import diffusers_to_official
from hunyuan_video.checkpoints.layout import BUNDLED, COMPONENTS, CONFIG, find_component_folder
from hunyuan_video.checkpoints.names import Component, Layout, find_component
from hunyuan_video.checkpoints.pickle_file import PickleFile
from hunyuan_video.checkpoints.safetensors_file import SafetensorsFile
from hunyuan_video.checkpoints.shards import INDEX, is_complete, open_shards, whole_files, whole_or_shards
from hunyuan_video.checkpoints.sources import MappedSource, Piece, TensorSource
from hunyuan_video.errors import UserError
from hunyuan_video.files import read_json

CONFIG_KEY = "hunyuan_video.config"  # in the metadata of a single safetensors file
# In order of preference within a folder; the FP8 file only where there is no other.
_WEIGHT_FILES = (
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "*.safetensors.index.json",
    "*.safetensors",
    "*_model_states.pt",
    "pytorch_model.pt",
    "pytorch_model_*.pt",
    "diffusion_pytorch_model.bin",
    "*_fp8.pt",
    "*.gguf",
)
_LINEAR = re.compile(r"mid_block\.attentions\.0\.to_(q|k|v|out\.0)\.weight$")  # convolutions in ComfyUI's VAE
_ADAPTER = re.compile(r"\.(lora_(A|B|down|up)|hada_w\d|lokr_w\d)\b")
_PICKLES = (".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint of one component, nothing read yet.

    stored: its tensors under the names of the file's layout, without prefix. source: under official names.
    """

    path: Path
    component: Component
    layout: Layout
    config: Config
    stored: TensorSource
    source: TensorSource


def open_checkpoint(path: str | Path, component: Component, load_key: str | None = None) -> Checkpoint:
    """Finds a component's weights at `path`: a weight file, its folder, or the root of a whole pipeline.

    load_key: which state dict of an official `.pt` file, "module" or "ema". UserError if there is nothing to load
    or the file is damaged.
    """
    path = _existing(path)
    file = path if path.is_file() else _find_weights(path, component)
    source = _open(file, load_key)
    check_comfy_quant(source)
    if any(map(_ADAPTER.search, source.infos)):
        raise UserError(
            f"{file} is an adapter (LoRA), not a checkpoint; sample with --adapter, or convert it with --names"
        )
    layout, names = find_component(source.infos, component)
    if layout is None:
        raise UserError(f"{file} holds no HunyuanVideo {component}; its keys are {first_names(source.infos)}")
    stored = MappedSource(
        source, {name: (Piece(original, matrix=bool(_LINEAR.search(name))),) for name, original in names.items()}
    )
    official = MappedSource(stored, diffusers_to_official(stored.infos)) if layout == "diffusers" else stored
    stated = _stated_config(file, component, source, strict=path.is_dir())
    config = stated or infer_config(component, official.infos, str(file))
    return Checkpoint(file, component, layout, config, stored, official)


def components_at(path: str | Path) -> tuple[Component, ...]:
    """Which components `open_checkpoint` finds at a path. UserError if none."""
    path = _existing(path)
    if path.is_file():
        names = _open(path, None).infos
        components = tuple(part for part in COMPONENTS if find_component(names, part)[0])
    else:
        components = tuple(part for part in COMPONENTS if find_component_folder(path, part))
        if not components:
            names = _open(_find_weights(path, "transformer"), None).infos
            components = tuple(part for part in COMPONENTS if find_component(names, part)[0])
    if not components:
        raise UserError(
            f"{path} holds neither a HunyuanVideo transformer nor its VAE; its keys are {first_names(names)}"
        )
    return components


def first_names(names: Any) -> str:
    """'a, b, c and 5 more', for messages."""
    names = [str(name) for name in names]
    shown = ", ".join(names[:3]) or "none"
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _existing(path: str | Path) -> Path:
    path = BUNDLED.get(str(path), Path(path).expanduser())
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path} does not exist; give a checkpoint file or folder (nothing is downloaded)") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return path


def _find_weights(path: Path, component: Component) -> Path:
    folder = find_component_folder(path, component) or path
    for pattern in _WEIGHT_FILES:
        files = sorted(file for file in folder.glob(pattern) if file.is_file())
        if len(files) > 1:
            raise UserError(
                f"{folder} holds several weight files ({first_names(f.name for f in files)}); name one of them"
            )
        if files:
            return _beside_index(files[0]) if files[0].name.endswith(INDEX) else files[0]
    raise UserError(f"{folder} holds no weights of a {component}; expected one of {', '.join(_WEIGHT_FILES)}")


def _beside_index(index: Path) -> Path:
    """An index, or the whole file of its name (or the only one) beside it where that is the one to read."""
    whole = index.with_name(index.name.removesuffix(INDEX) + ".safetensors")
    others = [whole] if whole.is_file() else whole_files(index.parent) if not is_complete(index) else []
    return whole_or_shards(index, others[0], prefer_whole=False) if len(others) == 1 else index


def _open(file: Path, load_key: str | None) -> TensorSource:
    if file.suffix == ".safetensors":
        return SafetensorsFile(file)
    if file.suffix == ".json":
        return open_shards(file)
    if file.suffix in _PICKLES:
        return PickleFile(file, load_key)
    if file.suffix == ".gguf":
        return GGUFFile(file)
    raise UserError(
        f"{file} is no checkpoint; expected a .safetensors, .safetensors.index.json, .pt or .gguf file, or a folder"
    )


def _stated_config(file: Path, component: Component, source: TensorSource, strict: bool) -> Config | None:
    """The config inside the file or in config.json beside it. strict: a config.json of another class is an error."""
    for values, where in _config_candidates(file, source):
        name = values.get("_class_name")
        if strict or name in CLASS_NAMES[component].values():
            return parse_config(component, values, where)
    return None


def _config_candidates(file: Path, source: TensorSource) -> Iterator[tuple[dict[str, Any], str]]:
    inside = getattr(source, "metadata", {}).get(CONFIG_KEY)
    if inside is not None:
        try:
            yield json.loads(inside), f"{file} (metadata {CONFIG_KEY})"
        except ValueError as error:
            raise UserError(f"{file}: the config in its metadata is not JSON; copy or download it again") from error
    beside = file.parent / CONFIG
    if beside.is_file():
        yield read_json(beside), str(beside)
