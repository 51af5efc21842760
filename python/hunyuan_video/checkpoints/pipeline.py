"""Checkpoint folders to the parts of a pipeline: our bundled one, diffusers folders, and the official folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from hunyuan_video.checkpoints.adapters import adapter_defaults, adapter_files, apply_adapters
from hunyuan_video.checkpoints.layout import (
    PARTS,
    SAMPLING,
    part_folders,
    tokenizer_folder,
)
from hunyuan_video.checkpoints.load import load_model
from hunyuan_video.errors import PrecisionWarning, UserError, notify
from hunyuan_video.files import read_optional_json


def load_parts(
    folder: Path,
    wanted: tuple[str, ...] = PARTS,
    *,
    dtype: torch.dtype | None,
    device: torch.device,
    adapter: str | None = "none",
    quantize: Literal["fp8", "int8"] | None = None,
    stream: bool = False,
) -> dict[str, Any]:
    """The wanted parts on `device`, as keyword arguments of HunyuanVideoPipeline; the transformer with an adapter.

    quantize: precision that the transformer's blocks get. stream: the blocks, and the language model's layers, stay in
    their files until they are due.
    """
    dtype = usable_dtype(dtype, device)
    folders = part_folders(folder)
    unknown = sorted(set(wanted) - set(folders))
    if unknown:
        raise UserError(f"a checkpoint has no part {unknown[0]!r}; its parts are {', '.join(folders)}")
    files = adapter_files(folder, read_sampling_json(folder), adapter) if "transformer" in wanted else []
    loaded = {part: _load(part, folder, folders[part], dtype, device, quantize, stream) for part in wanted}
    if files:
        apply_adapters(loaded["transformer"], files)
    return loaded


def _load(
    part: str, root: Path, folder: Path, dtype: torch.dtype | None, device: torch.device,
    quantize: Literal["fp8", "int8"] | None, stream: bool,
) -> Any:  # fmt: skip
    if not folder.is_dir():
        raise UserError(f"{root} has no {folder.name} folder; download the whole checkpoint")
    if part == "transformer":
        from hunyuan_video.models import HunyuanVideoTransformer

        wide = dtype or default_dtype(device)
        return load_model(
            HunyuanVideoTransformer, "transformer", folder, dtype=wide, device=device, quantize=quantize, stream=stream
        )
    if part == "vae":
        from hunyuan_video.models import CausalVAE

        return CausalVAE.from_pretrained(folder, dtype=vae_dtype(dtype, device), device=device).eval()
    from hunyuan_video.checkpoints.text import load_clip_encoder, load_text_encoder

    tokenizer = tokenizer_folder(folder)
    # The encoders run once per prompt: on a GPU in the precision they are stored in, on the CPU like the transformer.
    text_dtype = (dtype or torch.float32) if device.type == "cpu" else None
    if part == "text_encoder":
        if stream:
            return load_text_encoder(folder, tokenizer, prompt_template(root), dtype=text_dtype, stream=device)
        return load_text_encoder(folder, tokenizer, prompt_template(root), dtype=text_dtype).to(device)
    return load_clip_encoder(folder, tokenizer, dtype=text_dtype).to(device)


def prompt_template(folder: Path) -> Any:
    """The instruction frames of a checkpoint's sampling.json, else HunyuanVideo's."""
    from hunyuan_video.models.text.templates import HUNYUAN_TEMPLATE, PromptTemplate

    values = read_sampling_json(folder)
    if "prompt_template" not in values:
        return HUNYUAN_TEMPLATE
    try:
        return PromptTemplate.from_dict(
            values["prompt_template"], values.get("text_length", HUNYUAN_TEMPLATE.text_length)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / SAMPLING}: wrong prompt_template ({error}); restore the file") from error


def read_sampling_json(folder: Path) -> dict[str, Any]:
    """The content of sampling.json, {} where there is none; UserError if it is damaged."""
    return read_optional_json(folder / SAMPLING, "restore it, or delete it to use HunyuanVideo's values")


def stored_defaults(folder: Path, adapter: str | None = None) -> dict[str, Any]:
    """Sampling defaults of a checkpoint, with an adapter of its own or (None) with its default one."""
    return adapter_defaults(folder, read_sampling_json(folder), adapter)


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on accelerators; float32 on the CPU, where it is exact and equal on every machine."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def usable_dtype(dtype: torch.dtype | None, device: torch.device) -> torch.dtype | None:
    """dtype; but on a CPU, where torch has no usable float16 multiplication, bfloat16 for float16, or float32 where the
    processor does not compute in bfloat16 either; with a warning.
    """
    if dtype != torch.float16 or device.type != "cpu":
        return dtype
    native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    chosen = torch.bfloat16 if native else torch.float32
    message = f"float16 is not usable on a CPU; the models run in {str(chosen).removeprefix('torch.')} instead"
    notify(message, PrecisionWarning)
    return chosen


def move_parts(parts: Sequence[torch.nn.Module], device: torch.device) -> None:
    """Moves parts; those in float16 (the VAE of a GPU, official encoders) change to `usable_dtype` on a CPU."""
    for part in parts:
        part.to(device)
    halves = [part for part in parts if any(weight.dtype == torch.float16 for weight in part.parameters())]
    dtype = usable_dtype(torch.float16, device) if halves else None
    for part in halves:
        part.to(dtype)


def vae_dtype(dtype: torch.dtype | None, device: torch.device) -> torch.dtype:
    """float32 on the CPU or where it was asked for, else float16: bfloat16's 8 bits would show as bands in a video."""
    return torch.float32 if device.type == "cpu" or dtype == torch.float32 else torch.float16


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
