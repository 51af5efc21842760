"""Text encoders stored in FP8, decoded while they are read: they run once a prompt, and not in FP8.

| stored | scale |
|---|---|
| plain cast | none: a weight is the number it holds |
| ComfyUI | LAYER.scale_weight, one value |
| compressed-tensors, ModelOpt | LAYER.weight_scale, one value or one a row |
| transformers, DeepSeek | LAYER.weight_scale_inv, one a block |
"""

from __future__ import annotations

import torch
from torch import Tensor

from hunyuan_video.checkpoints.load import main_dtype
from hunyuan_video.checkpoints.sources import TensorSource, read
from hunyuan_video.checkpoints.validate import FP8_DTYPES
from hunyuan_video.errors import UserError

_SCALES = ("scale_weight", "weight_scale", "weight_scale_inv")
MARKERS = (*_SCALES, "scale_input", "input_scale", "scaled_fp8", "comfy_quant", "k_scale", "v_scale")


def read_decoded(source: TensorSource, key: str, dtype: torch.dtype | None) -> Tensor:
    """A tensor in a dtype (default: the one stored); FP8 as the numbers it stands for, in that of the other tensors."""
    info = source.infos[key]
    if info.dtype not in FP8_DTYPES:
        return read(source, key, dtype)
    weight = read(source, key, torch.float32)
    layer = key.removesuffix("weight").rstrip(".")
    name = next((f"{layer}.{scale}" for scale in _SCALES if f"{layer}.{scale}" in source.infos), None)
    if name is not None:
        weight = weight * _expanded(read(source, name, torch.float32), weight, source, name)
    elif weight.ndim > 1 and weight.abs().max() >= torch.finfo(info.dtype).max / 2:
        raise UserError(
            f"{source.origin(key)} holds FP8 weights without their scales ({layer}.weight_scale); use the file that "
            "has them, or the bf16 one"
        )
    return weight.to(dtype or main_dtype(source))


def _expanded(scale: Tensor, weight: Tensor, source: TensorSource, name: str) -> Tensor:
    """A scale in a shape that multiplies its weight [N, K]: of all of it, of a row, or of equal blocks."""
    rows, columns = weight.shape[0], weight.shape[-1]
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.numel() == len(scale) == rows:
        return scale.reshape(rows, 1)
    if scale.ndim == weight.ndim == 2:
        tall, wide = -(-rows // scale.shape[0]), -(-columns // scale.shape[1])
        # Blocks are square, as a rule 128 x 128; a single row or column of them shows one of their sides only.
        sizes = [n for n in (128, max(tall, wide)) if (-(-rows // n), -(-columns // n)) == tuple(scale.shape)]
        for size in sizes[:1]:
            return scale.repeat_interleave(size, 0)[:rows].repeat_interleave(size, 1)[:, :columns]
    raise UserError(
        f"{source.origin(name)}: the FP8 scale '{name}' of shape {list(scale.shape)} fits no weight of {rows} x "
        f"{columns}"
    )
