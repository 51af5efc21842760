"""Trained parts on disk: the text folder of a run, and the bundle that becomes a checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from hunyuan_video.checkpoints.layout import BUNDLED, SAMPLING, TEXT
from hunyuan_video.checkpoints.text import load_clip_encoder, load_text_encoder
from hunyuan_video.errors import UserError
from hunyuan_video.models import ClipTextEncoder, HunyuanVideoTransformer, TextEncoder
from hunyuan_video.models.int8 import QuantizedLinear
from hunyuan_video.models.text.templates import PromptTemplate

TEXT_FOLDERS = tuple(name for pair in TEXT.items() for name in pair)


def text_folder(name: str | Path) -> Path:
    """The folder of a text run or checkpoint, by its path or a bundled checkpoint's name."""
    return BUNDLED.get(str(name), Path(name))


def read_text_json(folder: Path) -> dict:
    """prompt_template and text_length: from a text run's text.json, or a checkpoint's sampling.json."""
    folder = text_folder(folder)
    for name in ("text.json", SAMPLING):
        if (folder / name).exists():
            return json.loads((folder / name).read_text())
    raise UserError(
        f"{folder}: neither text.json nor sampling.json there; train the text encoders first (recipes/tiny/text.yaml), "
        "or set `text` to a checkpoint folder"
    )


def load_trainable(path: str | Path) -> HunyuanVideoTransformer:
    """A transformer in float32 whose weights are to be trained, or copied into what is. UserError if they are FP8."""
    network = HunyuanVideoTransformer.from_pretrained(path, dtype=torch.float32)
    if any(isinstance(module, QuantizedLinear) for module in network.modules()):
        raise UserError(f"{path} has FP8 weights, which cannot be trained; give bf16 ones, or train an adapter")
    return network


def load_text(folder: str | Path) -> tuple[TextEncoder, ClipTextEncoder]:
    """Both text encoders of a text run, in float32 on the CPU."""
    folder = text_folder(folder)
    text = read_text_json(folder)
    template = PromptTemplate.from_dict(text["prompt_template"], text["text_length"])
    (encoder, tokenizer), clip = ((folder / name, folder / its) for name, its in TEXT.items())
    return load_text_encoder(encoder, tokenizer, template, torch.float32), load_clip_encoder(*clip, torch.float32)


def copy_text(source: Path, target: Path) -> None:
    """The four text folders of a run into a checkpoint folder."""
    for name in TEXT_FOLDERS:
        shutil.copytree(text_folder(source) / name, target / name)
