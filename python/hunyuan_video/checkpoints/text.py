"""Text encoders from Hugging Face folders: config.json, safetensors (also sharded), tokenizer.json.

Llama and CLIP are read without transformers; every other model type, and a folder without tokenizer.json, goes through it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hunyuan_video.checkpoints.tokenizer import load_tokenizer, transformers_package
from hunyuan_video.errors import UserError
from hunyuan_video.models.text.clip import ClipTextConfig, ClipTextModel
from hunyuan_video.models.text.encoders import ClipTextEncoder, TextEncoder
from hunyuan_video.models.text.foreign import ForeignLanguageModel, ForeignPooledModel
from hunyuan_video.models.text.llama import LlamaConfig, LlamaModel
from hunyuan_video.models.text.templates import HUNYUAN_TEMPLATE, PromptTemplate

CLIP_POSITIONS = 77
UNUSED_KEYS = ("lm_head.weight", "text_projection.weight", "rotary_emb.inv_freq", "embeddings.position_ids")


def load_text_encoder(
    folder: str | Path,
    tokenizer_folder: str | Path | None = None,
    config: PromptTemplate = HUNYUAN_TEMPLATE,
    dtype: torch.dtype | None = None,
) -> TextEncoder:
    """The language model in `folder` (Llama, also inside a LLaVA checkpoint) with its tokenizer, on the CPU.

    tokenizer_folder: default the same folder. dtype: default the one of the file. Raises UserError, one line that names
    the file and the key, for anything missing, truncated or of the wrong shape.
    """
    folder = _existing(folder)
    facts = read_json(folder / "config.json")
    tokenizer = load_tokenizer(tokenizer_folder or folder)
    return TextEncoder(_language_model(folder, facts, dtype), tokenizer, config)


def load_clip_encoder(
    folder: str | Path,
    tokenizer_folder: str | Path | None = None,
    dtype: torch.dtype | None = None,
) -> ClipTextEncoder:
    """The CLIP text model in `folder` with its tokenizer, on the CPU; arguments and errors as `load_text_encoder`."""
    folder = _existing(folder)
    facts = read_json(folder / "config.json")
    tokenizer = load_tokenizer(tokenizer_folder or folder)
    text = facts.get("text_config", facts)
    length = min(CLIP_POSITIONS, text.get("max_position_embeddings", CLIP_POSITIONS))
    return ClipTextEncoder(_pooled_model(folder, facts, text, dtype), tokenizer, max_length=length)


def _language_model(folder: Path, facts: dict[str, Any], dtype: torch.dtype | None) -> nn.Module:
    text = facts.get("text_config", facts)
    native = _config(LlamaConfig.from_dict, text) if text.get("model_type") == "llama" else None
    if native is None:
        return ForeignLanguageModel(_transformers_model(folder, facts, dtype))
    return load_weights(_on_meta(LlamaModel, native), folder, "embed_tokens.weight", dtype)


def _pooled_model(folder: Path, facts: dict[str, Any], text: dict[str, Any], dtype: torch.dtype | None) -> nn.Module:
    kind = facts.get("model_type")
    native = _config(ClipTextConfig.from_dict, text) if kind in ("clip", "clip_text_model") else None
    if native is None:
        return ForeignPooledModel(_transformers_model(folder, facts, dtype))
    return load_weights(_on_meta(ClipTextModel, native), folder, "embeddings.token_embedding.weight", dtype)


def _config(parse: Callable[[dict[str, Any]], Any], text: dict[str, Any]) -> Any | None:
    """The native configuration, or None where the native model does not compute what the file asks for."""
    try:
        return parse(text)
    except ValueError:
        return None


def _on_meta(model: Callable[[Any], nn.Module], config: Any) -> nn.Module:
    with torch.device("meta"):
        return model(config)


def load_weights(model: nn.Module, folder: Path, anchor: str, dtype: torch.dtype | None) -> nn.Module:
    """Fills a model on the meta device from the safetensors of a folder, one tensor at a time: no second copy in memory.

    anchor: a key of the model; what precedes it in the file (`language_model.model.`, `text_model.`, ...) is the prefix
    of our keys. Keys with another prefix belong to other models in the file and are ignored.
    """
    files = weight_files(folder)
    keys = {key: file for file in files for key in _keys(file)}
    anchors = [key for key in keys if key == anchor or key.endswith("." + anchor)]
    if not anchors:
        raise UserError(
            f"{folder}: no key ...{anchor} in its safetensors; this is not a checkpoint of this kind of model"
        )
    prefix = anchors[0].removesuffix(anchor)
    wanted = dict(model.named_parameters())
    for file in files:
        for key, tensor in _tensors(file, [k for k, f in keys.items() if f == file and k.startswith(prefix)]):
            name = key.removeprefix(prefix)
            if name in wanted:
                _assign(model, name, wanted.pop(name), tensor, dtype, file)
            elif not name.endswith(UNUSED_KEYS):
                raise UserError(f"{file}: key {key} is not in the model that config.json describes")
    if wanted:
        more = f" and {len(wanted) - 1} more" if len(wanted) > 1 else ""
        raise UserError(f"{files[0]}: missing key {prefix}{next(iter(wanted))}{more}; the checkpoint is incomplete")
    return model


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: those of its index, or model.safetensors, or the only one there is."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted({folder / name for name in read_json(index).get("weight_map", {}).values()})
    elif (folder / "model.safetensors").exists():
        files = [folder / "model.safetensors"]
    else:
        files = sorted(folder.glob("*.safetensors"))[:1]
    if not files:
        raise UserError(
            f"{folder}: no model.safetensors; text encoders are read from safetensors only, save it as such"
        )
    for file in files:
        if not file.exists():
            raise UserError(f"{file}: missing, although {index.name} lists it; download it")
    return files


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; UserError if it is missing or is none."""
    if not path.exists():
        raise UserError(f"{path}: missing; the folder must hold a Hugging Face checkpoint")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a JSON {type(content).__name__}, not an object; download it again")
    return content


def _existing(folder: str | Path) -> Path:
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of a text encoder (config.json, model.safetensors)")
    return Path(folder)


def _keys(file: Path) -> list[str]:
    try:
        with safe_open(file, "pt") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a complete safetensors file ({error}); download it again") from error


def _tensors(file: Path, keys: list[str]) -> Iterator[tuple[str, Tensor]]:
    with safe_open(file, "pt") as opened:
        for key in keys:
            yield key, opened.get_tensor(key)


def _assign(
    model: nn.Module, name: str, wanted: nn.Parameter, tensor: Tensor, dtype: torch.dtype | None, file: Path
) -> None:
    if tensor.shape != wanted.shape:
        raise UserError(f"{file}: key {name} has shape {list(tensor.shape)}, config.json asks for {list(wanted.shape)}")
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    setattr(owner, leaf, nn.Parameter(tensor.to(dtype or tensor.dtype), requires_grad=False))


def _transformers_model(folder: Path, facts: dict[str, Any], dtype: torch.dtype | None) -> Any:
    transformers = transformers_package(f"{folder} holds a model of type {facts.get('model_type')!r}")
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    keyword = "dtype" if version >= (4, 56) else "torch_dtype"
    try:
        return transformers.AutoModel.from_pretrained(str(folder), **{keyword: dtype or "auto"})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: transformers cannot load it ({str(error).splitlines()[0]})") from error
