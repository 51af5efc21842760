"""Does a checkpoint fit the model its config describes? Names, shapes, FP8 scales; one line about what does not."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from hunyuan_video.checkpoints.keys import SCALE
from hunyuan_video.checkpoints.locate import Checkpoint, first_names
from hunyuan_video.checkpoints.sources import TensorSource
from hunyuan_video.errors import UserError

FP8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)


def fp8_modules(source: TensorSource) -> list[str]:
    """Paths of the modules whose weight is stored as FP8."""
    return [
        name.removesuffix(".weight")
        for name, info in source.infos.items()
        if info.dtype in FP8_DTYPES and name.endswith(".weight")
    ]


def check_checkpoint(checkpoint: Checkpoint, expected: Mapping[str, tuple[int, ...]]) -> None:
    """UserError unless the checkpoint has exactly the tensors `expected` (official name -> shape), and scales for FP8."""
    infos, path = checkpoint.source.infos, checkpoint.path
    scales = {f"{module}.{SCALE}" for module in fp8_modules(checkpoint.source)}
    missing = [name for name in expected if name not in infos]
    if missing:
        raise UserError(
            f"{path}: {_count(missing, 'missing key')} ({first_names(missing)}); the file is incomplete or of another model"
        )
    extra = [name for name in infos if name not in expected and name not in scales]
    if extra:
        raise UserError(
            f"{path}: {_count(extra, 'unexpected key')} ({first_names(extra)}); the file is of another "
            f"{checkpoint.component}, or its config.json is"
        )
    for name, shape in expected.items():
        if infos[name].shape != shape:
            raise UserError(
                f"{checkpoint.source.origin(name)}: key '{name}' has shape {list(infos[name].shape)}, the config asks for "
                f"{list(shape)}; the file is of another {checkpoint.component}, or its config.json is"
            )
    for name, info in infos.items():
        if info.dtype in FP8_DTYPES and (info.dtype != torch.float8_e4m3fn or not name.endswith(".weight")):
            raise UserError(
                f"{checkpoint.source.origin(name)}: key '{name}' is {str(info.dtype).removeprefix('torch.')}; only weights "
                "can be FP8, and only float8_e4m3fn; use the bf16 file"
            )
    unscaled = [name for name in sorted(scales) if name not in infos]
    if unscaled:
        raise UserError(
            f"{path} holds FP8 weights without their scales ({first_names(unscaled)}); use the file that has them, or "
            "make one from the bf16 weights with quantize='fp8'"
        )


def _count(names: list[str], what: str) -> str:
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''}"
