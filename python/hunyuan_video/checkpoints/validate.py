"""Does a checkpoint fit the model its config describes? Names, shapes, FP8 scales; one line about what does not."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from hunyuan_video.checkpoints.keys import SCALE, official_to_diffusers
from hunyuan_video.checkpoints.locate import Checkpoint, first_names
from hunyuan_video.checkpoints.pickle_file import fp8_map_path
from hunyuan_video.checkpoints.sources import MappedSource, StateSource, TensorSource, read
from hunyuan_video.errors import UserError

FP8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)


def fp8_modules(source: TensorSource) -> list[str]:
    """Paths of the modules whose weight is stored as FP8."""
    return [
        name.removesuffix(".weight")
        for name, info in source.infos.items()
        if info.dtype in FP8_DTYPES and name.endswith(".weight")
    ]


def int8_modules(source: TensorSource) -> list[str]:
    """Paths of the modules whose weight is stored as int8, which has no meaning without a scale."""
    return [
        name.removesuffix(".weight")
        for name, info in source.infos.items()
        if info.dtype == torch.int8 and name.endswith(".weight")
    ]


def quantized_modules(source: TensorSource) -> list[str]:
    """Paths of the modules whose weight is stored in one byte."""
    return [*fp8_modules(source), *int8_modules(source)]


def check_checkpoint(checkpoint: Checkpoint, model: nn.Module) -> None:
    """UserError unless the file has exactly the tensors of `model` (on any device), and scales for FP8 weights.

    Both are compared in the file's layout, so that messages name the keys as they are in the file.
    """
    expected: TensorSource = StateSource(model.state_dict())
    if checkpoint.component == "transformer" and checkpoint.layout == "diffusers":
        expected = MappedSource(expected, official_to_diffusers(expected.infos))
    _check_names(checkpoint, expected)
    _check_shapes(checkpoint, expected)
    _check_int8(checkpoint)
    _check_fp8(checkpoint)


def _check_names(checkpoint: Checkpoint, expected: TensorSource) -> None:
    path, infos = checkpoint.path, checkpoint.stored.infos
    missing = [name for name in expected.infos if name not in infos]
    if missing:
        raise UserError(
            f"{path}: {_count(missing, 'missing key')} ({first_names(missing)}); the file is incomplete or of another "
            "model"
        )
    scales = {f"{module}.{SCALE}" for module in quantized_modules(checkpoint.stored)}
    extra = [name for name in infos if name not in expected.infos and name not in scales]
    if extra:
        raise UserError(
            f"{path}: {_count(extra, 'unexpected key')} ({first_names(extra)}); the file is of another "
            f"{checkpoint.component}, or its config.json is"
        )


def _check_shapes(checkpoint: Checkpoint, expected: TensorSource) -> None:
    for name, info in expected.infos.items():
        shape = checkpoint.stored.infos[name].shape
        if shape != info.shape:
            raise UserError(
                f"{checkpoint.stored.origin(name)}: key '{name}' has shape {list(shape)}, the config asks for "
                f"{list(info.shape)}; the file is of another {checkpoint.component}, or its config.json is"
            )


def _check_int8(checkpoint: Checkpoint) -> None:
    unscaled = [f"{module}.{SCALE}" for module in int8_modules(checkpoint.stored)]
    unscaled = [name for name in unscaled if name not in checkpoint.stored.infos]
    if unscaled:
        raise UserError(
            f"{checkpoint.path} holds int8 weights without their scales ({first_names(unscaled)}); use the file that "
            "has them, or make one: hunyuan-video convert --dtype int8"
        )


def _check_fp8(checkpoint: Checkpoint) -> None:
    """Scales of FP8 weights, or none for plain casts, which are told from lost scales by their largest values."""
    stored = checkpoint.stored
    modules = fp8_modules(stored)
    unscaled = [module for module in modules if f"{module}.{SCALE}" not in stored.infos]
    suspects = _sample(unscaled) if len(unscaled) == len(modules) else unscaled
    if not any(fills_fp8_range(stored, f"{module}.weight") for module in suspects):
        return
    origin = stored.origin(f"{unscaled[0]}.weight")
    beside = f"; put {fp8_map_path(Path(origin)).name} beside it" if str(origin).endswith(".pt") else ""
    raise UserError(
        f"{checkpoint.path} holds FP8 weights without their scales "
        f"({first_names(f'{module}.{SCALE}' for module in unscaled)}){beside}; use the file that has them, or make one "
        "from the bf16 weights with quantize='fp8'"
    )


def _sample(modules: list[str]) -> list[str]:
    """The first, a middle and the last of a list."""
    return list(dict.fromkeys(modules[i] for i in (0, len(modules) // 2, -1))) if modules else []


def fills_fp8_range(source: TensorSource, name: str) -> bool:
    """True if an FP8 tensor reaches half of its type's range: it was scaled to it, as no weight itself is so large."""
    info = source.infos[name]
    return bool(read(source, name).float().abs().max() >= torch.finfo(info.dtype).max / 2) if info.count else False


def _count(names: list[str], what: str) -> str:
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''}"
