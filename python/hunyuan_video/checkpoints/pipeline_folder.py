"""Files around the two models in the folder of a whole pipeline: copied, or made where a layout needs it."""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hunyuan_video.checkpoints.configs import CLASS_NAMES
from hunyuan_video.checkpoints.layout import (
    ADAPTERS,
    CONFIG,
    MODEL_INDEX,
    SAMPLING,
    SCHEDULER,
    TEXT,
    TOKENIZER_FILES,
)
from hunyuan_video.checkpoints.names import Component, Layout
from hunyuan_video.checkpoints.tokenizer import LLAMA_CLASSES
from hunyuan_video.errors import notify
from hunyuan_video.files import read_optional_json, write_json
from hunyuan_video.flow.shift import SHIFT_AT_50_STEPS

_MODEL_CLASSES = {"text_encoder": "LlamaModel", "text_encoder_2": "CLIPTextModel"}
_SCHEDULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": SHIFT_AT_50_STEPS}
# Reads tokenizer.json as it is. transformers 5 makes a LlamaTokenizerFast anew from its vocabulary, and then a
# byte-level one drops every space and line break of a prompt.
_PLAIN_CLASS = "PreTrainedTokenizerFast"
_RESTORE = "restore the file"


def copy_companions(src: Path, dst: Path, layout: Layout, components: Iterable[Component]) -> None:
    """Copies text encoders, tokenizers and the files at the root of a pipeline, rearranged for `layout`."""
    for file in src.iterdir():
        if file.is_file() and file.name != MODEL_INDEX:
            shutil.copy2(file, dst / file.name)
    if (src / ADAPTERS).is_dir():
        shutil.copytree(src / ADAPTERS, dst / ADAPTERS)
    for encoder, tokenizer in TEXT.items():
        files = [file for part in (encoder, tokenizer) for file in sorted((src / part).glob("*")) if file.is_file()]
        for file in files:
            apart = layout == "diffusers" and any(fnmatch.fnmatch(file.name, name) for name in TOKENIZER_FILES)
            target = dst / (tokenizer if apart else encoder) / file.name
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(file, target)
    # The official layout has no place for the shift: another one than the released model's goes along as it is.
    scheduler = read_optional_json(src / SCHEDULER, _RESTORE)
    if scheduler and (layout == "diffusers" or scheduler.get("shift") != _SCHEDULER["shift"]):
        (dst / SCHEDULER).parent.mkdir(exist_ok=True)
        shutil.copy2(src / SCHEDULER, dst / SCHEDULER)
    if layout == "diffusers":
        complete(src, dst, components)


def complete(src: Path, dst: Path, components: Iterable[Component]) -> None:
    """Writes what diffusers needs and the source has not: scheduler, classes of tokenizers, index of parts."""
    if not (dst / SCHEDULER).is_file():
        shift = read_optional_json(dst / SAMPLING, _RESTORE).get("flow_shift", _SCHEDULER["shift"])
        write_json(dst / SCHEDULER, {**_SCHEDULER, "shift": shift}, indent=2)
    classes = {
        tokenizer: _tokenizer_class(dst / tokenizer) for tokenizer in TEXT.values() if (dst / tokenizer).is_dir()
    }
    if (src / MODEL_INDEX).is_file():
        index = {**read_optional_json(src / MODEL_INDEX, _RESTORE)}
        index |= {name: ["transformers", made] for name, made in classes.items() if made != index.get(name, [""])[-1]}
    else:
        index = _model_index(dst, classes, components)
    write_json(dst / MODEL_INDEX, index, indent=2)


def _tokenizer_class(folder: Path) -> str:
    """The class that reads a tokenizer as it is; written into its config where that names none, or another."""
    path = folder / "tokenizer_config.json"
    config = read_optional_json(path, _RESTORE)
    stated = config.get("tokenizer_class")
    tokenizer = read_optional_json(folder / "tokenizer.json", _RESTORE)
    if stated in LLAMA_CLASSES and _is_byte_level(tokenizer) and tokenizer.get("post_processor"):
        notify(
            f"{folder.name}: its config names {stated}, with which transformers 5 drops the spaces of a byte-level "
            f"tokenizer; written as {_PLAIN_CLASS}"
        )
        stated = None
    if stated:
        return str(stated)
    if not tokenizer:
        return "CLIPTokenizer" if (folder / "merges.txt").is_file() else _PLAIN_CLASS
    config |= {"tokenizer_class": _PLAIN_CLASS, "padding_side": "right", **_special_tokens(folder, config)}
    write_json(path, config, indent=2)
    return _PLAIN_CLASS


def _special_tokens(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Begin, end and padding tokens that only special_tokens_map.json names; padding is the end where none does."""
    named = read_optional_json(folder / "special_tokens_map.json", _RESTORE) | config
    tokens = {key: named[key] for key in ("bos_token", "eos_token", "unk_token", "pad_token") if named.get(key)}
    return tokens | ({"pad_token": tokens["eos_token"]} if "eos_token" in tokens and "pad_token" not in tokens else {})


def _is_byte_level(tokenizer: dict[str, Any]) -> bool:
    return '"ByteLevel"' in json.dumps([tokenizer.get("pre_tokenizer"), tokenizer.get("decoder")])


def _model_index(root: Path, tokenizers: dict[str, str], components: Iterable[Component]) -> dict[str, Any]:
    """diffusers' table of the pipeline's parts: name -> package, class."""
    index: dict[str, Any] = {
        "_class_name": "HunyuanVideoPipeline",
        "scheduler": ["diffusers", _SCHEDULER["_class_name"]],
    }
    for encoder, tokenizer in TEXT.items():
        if (root / encoder).is_dir():
            stated = read_optional_json(root / encoder / CONFIG, _RESTORE).get("architectures")
            index[encoder] = ["transformers", (stated or [_MODEL_CLASSES[encoder]])[0]]
        if tokenizer in tokenizers:
            index[tokenizer] = ["transformers", tokenizers[tokenizer]]
    index |= {component: ["diffusers", CLASS_NAMES[component]["diffusers"]] for component in components}
    return dict(sorted(index.items()))
