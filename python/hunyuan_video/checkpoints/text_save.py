"""Writes text encoders and tokenizers as Hugging Face folders that transformers' own classes load."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hunyuan_video.checkpoints.atomic import staged_file, write_json
from hunyuan_video.checkpoints.safetensors_file import TensorInfo, write_safetensors
from hunyuan_video.models.text.clip import ClipTextModel
from hunyuan_video.models.text.llama import LlamaModel


def save_llama_model(
    model: LlamaModel,
    folder: str | Path,
    *,
    positions: int,
    special: dict[str, int],
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """config.json and model.safetensors of transformers' LlamaModel.

    positions: the longest text it is meant for. special: pad_token_id, bos_token_id, eos_token_id.
    """
    config = asdict(model.config)
    scaling = config.pop("rope_scaling") or None
    config |= {
        "num_key_value_heads": model.config.kv_heads,
        "head_dim": model.config.head_size,
        "rope_scaling": scaling,
    }
    config |= {"hidden_act": "silu", "max_position_embeddings": positions, "tie_word_embeddings": False}
    _save("LlamaModel", "llama", model, config | special, Path(folder), dtype)


def save_clip_model(
    model: ClipTextModel, folder: str | Path, *, special: dict[str, int], dtype: torch.dtype = torch.bfloat16
) -> None:
    """config.json and model.safetensors of transformers' CLIPTextModel; version 4's keys, which 5 reads too."""
    config = asdict(model.config) | {"projection_dim": model.config.hidden_size}
    _save("CLIPTextModel", "clip_text_model", model, config | special, Path(folder), dtype, prefix="text_model.")


def save_tokenizer(tokenizer: Any, config: dict[str, Any], folder: str | Path) -> None:
    """tokenizer.json of a `tokenizers.Tokenizer`, and tokenizer_config.json."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    with staged_file(Path(folder) / "tokenizer.json") as file:
        file.write(tokenizer.to_str().encode())
    write_json(Path(folder) / "tokenizer_config.json", config, indent=2)


def _save(
    architecture: str,
    kind: str,
    model: nn.Module,
    config: dict[str, Any],
    folder: Path,
    dtype: torch.dtype,
    *,
    prefix: str = "",
) -> None:
    head = {"architectures": [architecture], "model_type": kind, "torch_dtype": str(dtype).removeprefix("torch.")}
    tensors = {prefix + name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    infos = {name: TensorInfo(tuple(tensor.shape), dtype) for name, tensor in tensors.items()}
    with staged_file(folder / "model.safetensors") as file:
        write_safetensors(file, infos, tensors.__getitem__)
    write_json(folder / "config.json", head | config, indent=2)
