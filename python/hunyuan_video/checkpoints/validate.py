"""Does a checkpoint fit the model its config describes? Names, shapes, FP8 scales; one line about what does not."""

from __future__ import annotations

import torch
from torch import nn

from hunyuan_video.checkpoints.keys import SCALE, official_to_diffusers
from hunyuan_video.checkpoints.locate import Checkpoint, first_names
from hunyuan_video.checkpoints.sources import MappedSource, StateSource, TensorSource
from hunyuan_video.errors import UserError

FP8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)


def fp8_modules(source: TensorSource) -> list[str]:
    """Paths of the modules whose weight is stored as FP8."""
    return [
        name.removesuffix(".weight")
        for name, info in source.infos.items()
        if info.dtype in FP8_DTYPES and name.endswith(".weight")
    ]


def check_checkpoint(checkpoint: Checkpoint, model: nn.Module) -> None:
    """UserError unless the file has exactly the tensors of `model` (on any device), and scales for FP8 weights.

    Both are compared in the file's layout, so that messages name the keys as they are in the file.
    """
    expected: TensorSource = StateSource(model.state_dict())
    if checkpoint.component == "transformer" and checkpoint.layout == "diffusers":
        expected = MappedSource(expected, official_to_diffusers(expected.infos))
    _check_names(checkpoint, expected)
    _check_shapes(checkpoint, expected)
    _check_fp8(checkpoint)


def _check_names(checkpoint: Checkpoint, expected: TensorSource) -> None:
    path, infos = checkpoint.path, checkpoint.stored.infos
    missing = [name for name in expected.infos if name not in infos]
    if missing:
        raise UserError(
            f"{path}: {_count(missing, 'missing key')} ({first_names(missing)}); the file is incomplete or of another "
            "model"
        )
    scales = {f"{module}.{SCALE}" for module in fp8_modules(checkpoint.stored)}
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


def _check_fp8(checkpoint: Checkpoint) -> None:
    for name, info in checkpoint.stored.infos.items():
        if info.dtype in FP8_DTYPES and (info.dtype != torch.float8_e4m3fn or not name.endswith(".weight")):
            raise UserError(
                f"{checkpoint.stored.origin(name)}: key '{name}' is {info}; only weights can be FP8, and only "
                "float8_e4m3fn; use the bf16 file"
            )
    scales = [f"{module}.{SCALE}" for module in fp8_modules(checkpoint.stored)]
    unscaled = [name for name in scales if name not in checkpoint.stored.infos]
    if unscaled:
        raise UserError(
            f"{checkpoint.path} holds FP8 weights without their scales ({first_names(unscaled)}); use the file that "
            "has them, or make one from the bf16 weights with quantize='fp8'"
        )


def _count(names: list[str], what: str) -> str:
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''}"
