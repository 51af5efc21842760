"""Writes text encoders and tokenizers as Hugging Face folders that transformers' own classes load."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

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
    """config.json and model.safetensors of transformers' CLIPTextModel (keys with version 4's prefix, which 5 reads too)."""
    config = asdict(model.config) | {"projection_dim": model.config.hidden_size}
    _save("CLIPTextModel", "clip_text_model", model, config | special, Path(folder), dtype, prefix="text_model.")


def save_tokenizer(tokenizer: Any, config: dict[str, Any], folder: str | Path) -> None:
    """tokenizer.json of a `tokenizers.Tokenizer`, and tokenizer_config.json."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    text = tokenizer.to_str()
    _replace(folder / "tokenizer.json", lambda path: path.write_text(text, encoding="utf-8"))
    save_json(config, folder / "tokenizer_config.json")


def save_json(content: dict[str, Any], path: str | Path) -> None:
    """Writes JSON under a temporary name, then renames it."""
    text = json.dumps(content, indent=2) + "\n"
    _replace(Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))


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
    folder.mkdir(parents=True, exist_ok=True)
    head = {"architectures": [architecture], "model_type": kind, "torch_dtype": str(dtype).removeprefix("torch.")}
    tensors = {prefix + k: v.detach().to("cpu", dtype).contiguous() for k, v in model.state_dict().items()}
    _replace(folder / "model.safetensors", lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    save_json(head | config, folder / "config.json")


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    os.replace(temporary, path)
