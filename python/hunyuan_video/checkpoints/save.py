"""Writing checkpoints: diffusers folders (also sharded), official folders, single safetensors files. All atomic."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from hunyuan_video.checkpoints.configs import Config, config_to_dict
from hunyuan_video.checkpoints.fp8 import model_source
from hunyuan_video.checkpoints.keys import SCALE, official_to_diffusers
from hunyuan_video.checkpoints.locate import CONFIG_KEY
from hunyuan_video.checkpoints.names import Component, Layout
from hunyuan_video.checkpoints.pickle_file import fp8_map_path
from hunyuan_video.checkpoints.safetensors_file import TensorInfo, write_safetensors
from hunyuan_video.checkpoints.sources import MappedSource, StateSource, TensorSource, read
from hunyuan_video.checkpoints.validate import FP8_DTYPES, fp8_modules, int8_modules
from hunyuan_video.errors import UserError
from hunyuan_video.files import staged_file, staged_folder
from hunyuan_video.phases import tell

MAX_SHARD_SIZE = 10_000_000_000  # bytes, as diffusers
_DIFFUSERS_STEM = "diffusion_pytorch_model"
_OFFICIAL_FILES: dict[Component, str] = {"transformer": "mp_rank_00_model_states.pt", "vae": "pytorch_model.pt"}
_OURS = (".safetensors", ".safetensors.index.json", ".pt", "config.json")


def save_model(
    model: nn.Module,
    config: Config,
    component: Component,
    path: str | Path,
    layout: Layout = "diffusers",
    max_shard_size: int = MAX_SHARD_SIZE,
) -> Path:
    """Saves a model and its config; see `Pretrained.save_pretrained`."""
    return write_checkpoint(model_source(model), config, component, path, layout, max_shard_size)


def write_checkpoint(
    source: TensorSource,
    config: Config,
    component: Component,
    path: str | Path,
    layout: Layout,
    max_shard_size: int = MAX_SHARD_SIZE,
    dtype: torch.dtype | None = None,
) -> Path:
    """Writes a source with official names; safetensors need memory for one tensor, `.pt` files for all of them.

    path: a folder, or a single file if it ends in .safetensors (any layout) or .pt (official layout). dtype: of the
    floating-point tensors except FP8 weights and their scales, default as they are. Returns the path.
    """
    if layout not in ("diffusers", "official"):
        raise ValueError(f"layout={layout!r} is unknown; use 'diffusers' or 'official'")
    path = Path(path).expanduser()
    config_text = _config_text(component, config, layout)
    if component == "transformer" and layout == "diffusers":
        source = MappedSource(source, official_to_diffusers(source.infos))
    if int8_modules(source) and (layout == "official" and path.suffix != ".safetensors"):
        raise UserError(f"{path}: .pt files of the official layout have no int8; use layout diffusers or .safetensors")
    infos = {name: _stored_as(name, info, dtype) for name, info in source.infos.items()}
    if path.suffix == ".safetensors":
        _write_safetensors(path, source, infos, {CONFIG_KEY: config_text})
    elif path.suffix == ".pt":
        if layout != "official":
            raise UserError(f"{path}: .pt files have the official layout; use layout='official' or a .safetensors name")
        _write_pickle(path, component, source, infos)
    else:
        with staged_folder(path, lambda entry: entry.is_file() and entry.name.endswith(_OURS)) as folder:
            (folder / "config.json").write_text(config_text + "\n", encoding="utf-8")
            if layout == "diffusers":
                _write_shards(folder, source, infos, max_shard_size)
            else:
                name = _OFFICIAL_FILES[component]
                name = name.replace(".pt", "_fp8.pt") if fp8_modules(source) else name
                _write_pickle(folder / name, component, source, infos)
    return path


def _config_text(component: Component, config: Config, layout: Layout) -> str:
    try:
        return json.dumps(config_to_dict(component, config, layout), indent=2)
    except ValueError as error:
        raise UserError(f"this {component} cannot be saved with layout='{layout}': {error}") from error


def _stored_as(name: str, info: TensorInfo, dtype: torch.dtype | None) -> TensorInfo:
    keep = not info.dtype.is_floating_point or info.dtype in FP8_DTYPES or name.endswith(f".{SCALE}")
    return info if keep or dtype is None else TensorInfo(info.shape, dtype)


def _write_safetensors(
    path: Path, source: TensorSource, infos: Mapping[str, TensorInfo], metadata: Mapping[str, str] | None = None
) -> None:
    tick = _ticks(infos)
    with staged_file(path) as file:
        write_safetensors(file, infos, lambda name: tick(name, read(source, name, infos[name].dtype)), metadata)


def _ticks(infos: Mapping[str, TensorInfo]) -> Callable[[str, Tensor], Tensor]:
    """Hands tensors through and tells how much of a file is written."""
    done, total = 0, sum(info.nbytes for info in infos.values())

    def tick(name: str, tensor: Tensor) -> Tensor:
        nonlocal done
        done += infos[name].nbytes
        tell("writing weights", done, total)
        return tensor

    return tick


def _write_shards(folder: Path, source: TensorSource, infos: Mapping[str, TensorInfo], max_shard_size: int) -> None:
    shards = split_shards(infos, max_shard_size)
    if len(shards) == 1:
        _write_safetensors(folder / f"{_DIFFUSERS_STEM}.safetensors", source, infos)
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"{_DIFFUSERS_STEM}-{number:05}-of-{len(shards):05}.safetensors"
        _write_safetensors(folder / file, source, {name: infos[name] for name in names})
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": sum(info.nbytes for info in infos.values())}, "weight_map": weight_map}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (folder / f"{_DIFFUSERS_STEM}.safetensors.index.json").write_text(text, encoding="utf-8")


def split_shards(infos: Mapping[str, TensorInfo], max_shard_size: int) -> list[list[str]]:
    """Names in order, cut so that a shard has at most `max_shard_size` bytes, or a single larger tensor."""
    if max_shard_size < 1:
        raise ValueError(f"max_shard_size={max_shard_size} must be a positive number of bytes")
    shards: list[list[str]] = [[]]
    size = 0
    for name, info in infos.items():
        if shards[-1] and size + info.nbytes > max_shard_size:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += info.nbytes
    return shards


def _write_pickle(path: Path, component: Component, source: TensorSource, infos: Mapping[str, TensorInfo]) -> None:
    """The official `.pt` file, with the scales of FP8 weights in a `_map.pt` file beside it."""
    scales = [name for module in fp8_modules(source) if (name := f"{module}.{SCALE}") in infos]
    tick = _ticks({name: info for name, info in infos.items() if name not in scales})
    state = {name: tick(name, _tensor(source, name, info)) for name, info in infos.items() if name not in scales}
    if scales:
        with staged_file(fp8_map_path(path)) as file:
            _torch_save({name.removesuffix(f".{SCALE}"): read(source, name) for name in scales}, file)
    with staged_file(path) as file:
        _torch_save({"module": state} if component == "transformer" else state, file)


def _torch_save(content: dict, file: BinaryIO) -> None:
    """torch.save, with the OSError of a full disk where PyTorch's writer reports its own RuntimeError."""
    try:
        torch.save(content, file)
    except RuntimeError as error:
        raise OSError(f"PyTorch could not write all of it ({str(error).splitlines()[0]})") from error


def _tensor(source: TensorSource, name: str, info: TensorInfo) -> Tensor:
    """The tensor itself where the source has it in memory as it is to be stored, so that saving makes no copy."""
    if isinstance(source, StateSource) and source.infos[name] == info:
        return source.tensors[name].detach().cpu().contiguous()
    return read(source, name, info.dtype)
