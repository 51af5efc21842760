"""Text encoders from and to Hugging Face folders: config.json, safetensors (also sharded), tokenizer.json.

Llama and CLIP are read without transformers; every other model type, and a folder without tokenizer.json, needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hunyuan_video.checkpoints.safetensors_file import SafetensorsFile, TensorInfo, write_safetensors
from hunyuan_video.checkpoints.shards import open_shards, whole_or_shards
from hunyuan_video.checkpoints.sources import TensorSource
from hunyuan_video.checkpoints.text_fp8 import MARKERS, read_decoded
from hunyuan_video.checkpoints.tokenizer import load_tokenizer, transformers_package
from hunyuan_video.errors import UserError
from hunyuan_video.files import read_json, staged_file, write_json
from hunyuan_video.models.pretrained import SkipInit
from hunyuan_video.models.text.clip import ClipTextConfig, ClipTextModel
from hunyuan_video.models.text.encoders import ClipTextEncoder, TextEncoder
from hunyuan_video.models.text.foreign import ForeignLanguageModel, ForeignPooledModel
from hunyuan_video.models.text.llama import LlamaConfig, LlamaModel
from hunyuan_video.models.text.templates import HUNYUAN_TEMPLATE, PromptTemplate
from hunyuan_video.phases import tell

CLIP_POSITIONS = 77
UNUSED_KEYS = ("lm_head.weight", "text_projection.weight", "rotary_emb.inv_freq", "embeddings.position_ids")


def load_text_encoder(
    folder: str | Path,
    tokenizer_folder: str | Path | None = None,
    config: PromptTemplate = HUNYUAN_TEMPLATE,
    dtype: torch.dtype | None = None,
    stream: torch.device | None = None,
) -> TextEncoder:
    """The language model in `folder` (Llama, also inside a LLaVA checkpoint) with its tokenizer, on the CPU.

    tokenizer_folder: default the same folder. dtype: default the one of the file. stream: a device on which the model
    runs, its layers read one by one when they are due. Raises UserError, one line that names
    the file and the key, for anything missing, truncated or of the wrong shape.
    """
    folder = _existing(folder)
    values, text = _text_values(folder)
    tokenizer = load_tokenizer(tokenizer_folder or folder)
    return TextEncoder(_language_model(folder, values, text, dtype, stream), tokenizer, config)


def load_clip_encoder(
    folder: str | Path,
    tokenizer_folder: str | Path | None = None,
    dtype: torch.dtype | None = None,
) -> ClipTextEncoder:
    """The CLIP text model in `folder` with its tokenizer, on the CPU; arguments and errors as `load_text_encoder`."""
    folder = _existing(folder)
    values, text = _text_values(folder)
    tokenizer = load_tokenizer(tokenizer_folder or folder)
    model = _pooled_model(folder, values, text, dtype)
    length = min(CLIP_POSITIONS, text.get("max_position_embeddings") or CLIP_POSITIONS)
    return ClipTextEncoder(model, tokenizer, max_length=length)


def _language_model(
    folder: Path, values: dict[str, Any], text: dict[str, Any], dtype: torch.dtype | None, stream: torch.device | None
) -> nn.Module:
    native = _config(LlamaConfig.from_dict, text, folder) if text.get("model_type") == "llama" else None
    if native is None:
        foreign = ForeignLanguageModel(_transformers_model(folder, values, dtype))
        return foreign if stream is None else foreign.to(stream)
    return load_weights(_on_meta(LlamaModel, native), folder, "embed_tokens.weight", dtype, stream)


def _pooled_model(folder: Path, values: dict[str, Any], text: dict[str, Any], dtype: torch.dtype | None) -> nn.Module:
    kind = values.get("model_type")
    native = _config(ClipTextConfig.from_dict, text, folder) if kind in ("clip", "clip_text_model") else None
    if native is None:
        return ForeignPooledModel(_transformers_model(folder, values, dtype))
    return load_weights(_on_meta(ClipTextModel, native), folder, "embeddings.token_embedding.weight", dtype)


def _config(parse: Callable[[dict[str, Any]], Any], text: dict[str, Any], folder: Path) -> Any | None:
    """The native configuration, or None where the native model does not compute what the file asks for. UserError for
    values that no model has.
    """
    try:
        return parse(text)
    except ValueError:
        return None
    except TypeError as error:
        raise UserError(f"{folder / 'config.json'}: {error}; restore the file") from None


def _text_values(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.json, and its part that describes the text model."""
    values = read_json(folder / "config.json")
    text = values.get("text_config", values)
    if not isinstance(text, dict):
        raise UserError(f"{folder / 'config.json'}: text_config must be a table, got {text!r}; restore the file")
    for table in (values, text):
        if not isinstance(table.get("model_type", ""), str):
            wrong = f"model_type must be a text, got {table['model_type']!r}"
            raise UserError(f"{folder / 'config.json'}: {wrong}; restore the file")
    return values, text


def _on_meta(model: Callable[[Any], nn.Module], config: Any) -> nn.Module:
    with torch.device("meta"), SkipInit():
        return model(config)


def load_weights(
    model: nn.Module, folder: Path, anchor: str, dtype: torch.dtype | None, stream: torch.device | None = None
) -> nn.Module:
    """Fills a model on the meta device from the safetensors of a folder, one tensor at a time, so memory holds it once.

    anchor: a key of the model; what precedes it in the file (`language_model.model.`, `text_model.`, ...) is the prefix
    of our keys. Keys with another prefix belong to other models in the file and are ignored. stream: where the model
    runs while its layers stay in the file.
    """
    source = open_weights(folder)
    anchors = [key for key in source.infos if key == anchor or key.endswith("." + anchor)]
    if not anchors:
        raise UserError(f"{folder}: no key ...{anchor} in its weights; this is not a checkpoint of this kind of model")
    prefix = anchors[0].removesuffix(anchor)
    wanted = dict(model.named_parameters())
    total = len(wanted)
    for key in (key for key in source.infos if key.startswith(prefix)):
        name = key.removeprefix(prefix)
        if name in wanted:
            _check_shape(source, key, wanted.pop(name))
            if stream is None:
                _assign(model, name, read_decoded(source, key, dtype))
            elif name.startswith("layers."):
                _leave(model, name, partial(read_decoded, source, key, dtype))
            else:
                _assign(model, name, read_decoded(source, key, dtype).to(stream))
            tell("loading", total - len(wanted), total)
        elif not name.endswith((*UNUSED_KEYS, *MARKERS)):
            raise UserError(f"{source.origin(key)}: key {key} is not in the model that config.json describes")
    if wanted:
        more = f" and {len(wanted) - 1} more" if len(wanted) > 1 else ""
        missing = prefix + next(iter(wanted))
        raise UserError(f"{source.origin(anchors[0])}: missing key {missing}{more}; the checkpoint is incomplete")
    return model


def open_weights(folder: Path) -> TensorSource:
    """The safetensors of a folder: model.safetensors, or the shards of its index, or the first file there is."""
    index, whole = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file() and whole.is_file():
        whole_or_shards(index, whole, prefer_whole=True)
        return SafetensorsFile(whole)
    if index.is_file():
        return open_shards(index)
    weights = next((file for file in (whole, *sorted(folder.glob("*.safetensors"))) if file.is_file()), None)
    if weights is None:
        raise UserError(
            f"{folder}: no model.safetensors; text encoders are read from safetensors only, save it as such"
        )
    return SafetensorsFile(weights)


def _existing(folder: str | Path) -> Path:
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of a text encoder (config.json, model.safetensors)")
    return Path(folder)


def _check_shape(source: TensorSource, key: str, wanted: nn.Parameter) -> None:
    stored = source.infos[key].shape
    if stored != tuple(wanted.shape):
        raise UserError(
            f"{source.origin(key)}: key {key} has shape {list(stored)}, config.json asks for {list(wanted.shape)}"
        )


def _assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, nn.Parameter(tensor, requires_grad=False))


def _leave(model: nn.Module, name: str, read: Callable[[], Tensor]) -> None:
    """Leaves a tensor in its file: the module's copies read it (models/transformer/streamed.py)."""
    path, _, leaf = name.rpartition(".")
    own = vars(model.get_submodule(path))
    reads = own["stored"].keywords["reads"] if "stored" in own else {}
    reads[leaf] = read
    own["stored"] = partial(_read_all, reads=reads)


def _read_all(twin: nn.Module, device: torch.device, reads: dict[str, Callable[[], Tensor]]) -> None:
    for leaf, read in reads.items():
        twin._parameters[leaf] = nn.Parameter(read().to(device), requires_grad=False)


def _transformers_model(folder: Path, values: dict[str, Any], dtype: torch.dtype | None) -> Any:
    transformers = transformers_package(f"{folder} holds a model of type {values.get('model_type')!r}")
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    keyword = "dtype" if version >= (4, 56) else "torch_dtype"
    try:
        return transformers.AutoModel.from_pretrained(str(folder), **{keyword: dtype or "auto"})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: transformers cannot load it ({str(error).splitlines()[0]})") from error


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
