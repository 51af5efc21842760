"""Linears of one byte between files (`<module>.weight`, `<module>.weight_scale`) and models (FP8Linear, Int8Linear)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hunyuan_video.checkpoints.keys import SCALE
from hunyuan_video.checkpoints.sources import StateSource, TensorSource, read
from hunyuan_video.errors import UserError
from hunyuan_video.models.fp8 import FP8Linear, fp8_linears
from hunyuan_video.models.int8 import Int8Linear, QuantizedLinear


def place_quantized_linears(model: nn.Module, paths: list[str], source: TensorSource, file: Path) -> None:
    """Puts an empty FP8Linear or Int8Linear in the place of each Linear at `paths` of a model on the meta device."""
    for path in paths:
        linear = model.get_submodule(path)
        made = Int8Linear if source.infos[f"{path}.weight"].dtype == torch.int8 else FP8Linear
        if not isinstance(linear, nn.Linear):
            kind = "int8" if made is Int8Linear else "FP8"
            raise UserError(f"{file}: key '{path}.weight' is {kind} with a scale, which only linear layers can be; use "
                            "the bf16 file")  # fmt: skip
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, made.from_linear(linear))


def read_int8(linear: Int8Linear, source: TensorSource, path: str, device: torch.device) -> None:
    """Fills weight and scale of an Int8Linear from a source that stores both."""
    linear.weight = torch.empty(linear.weight.shape, dtype=torch.int8, device=device)
    source.read_into(linear.weight, f"{path}.weight")
    scale = _scale(source, path, linear.out_features)
    linear.scale = scale.expand(linear.out_features, 1).contiguous().to(device)


def read_fp8(linear: FP8Linear, source: TensorSource, path: str, device: torch.device) -> None:
    """Fills weight and scale of an FP8Linear from a source that stores them; scale 1 for a plain cast."""
    name = f"{path}.weight"
    scale = _scale(source, path, linear.out_features)
    if source.infos[name].dtype == torch.float8_e5m2:
        linear.weight, change = _narrowed(read(source, name))
        linear.weight, linear.scale = linear.weight.to(device), (scale * change).to(device)
        return
    linear.weight = torch.empty(linear.weight.shape, dtype=linear.weight.dtype, device=device)
    source.read_into(linear.weight, name)
    linear.scale = scale.to(device)


def _narrowed(weight: Tensor) -> tuple[Tensor, Tensor]:  # [N, K] e5m2 -> [N, K] e4m3, [N, 1]
    """The same numbers as float8_e4m3fn and a power of two for each row: exact down to 2^-15 of the row's largest."""
    wide = weight.float()
    largest = wide.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    change = torch.exp2(torch.ceil(torch.log2(largest / torch.finfo(torch.float8_e4m3fn).max)))
    return (wide / change).to(torch.float8_e4m3fn), change


def block_linears(model: nn.Module) -> list[str]:
    """Paths of the linears that quantization takes."""
    return [path for path, _ in fp8_linears(model)]


def model_source(model: nn.Module) -> StateSource:
    """The tensors of a model under the names of files."""
    quantized = [path for path, module in model.named_modules() if isinstance(module, QuantizedLinear)]
    renamed = {f"{path}.scale": f"{path}.{SCALE}" for path in quantized}
    return StateSource({renamed.get(name, name): tensor for name, tensor in model.state_dict().items()})


def _scale(source: TensorSource, path: str, rows: int) -> Tensor:  # [] or [rows, 1], float32
    name = f"{path}.{SCALE}"
    if name not in source.infos:
        return torch.ones((), dtype=torch.float32, device="cpu")
    scale = read(source, name, torch.float32).reshape(-1)
    if scale.numel() not in (1, rows):
        raise UserError(
            f"{source.origin(name)}: the scale of '{path}' has {scale.numel()} values, expected 1 or {rows}; "
            "scales of blocks of a weight are not supported"
        )
    same = bool((scale == scale[0]).all())  # per tensor, or per tensor repeated where fused projections were apart
    return scale[0] if same else scale.unsqueeze(1)
