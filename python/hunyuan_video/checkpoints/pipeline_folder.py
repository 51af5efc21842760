"""What surrounds the two models in the folder of a whole pipeline, official or diffusers."""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from hunyuan_video.checkpoints.configs import CLASS_NAMES
from hunyuan_video.checkpoints.locate import OFFICIAL_ROOT
from hunyuan_video.checkpoints.names import Component, Layout

_INDEX = "model_index.json"
# The official layout keeps each tokenizer in the folder of its text encoder, diffusers apart.
_TEXT = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
_TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
)
_TEXT_CLASSES = {
    "text_encoder": ("LlamaModel", "LlamaTokenizerFast"),
    "text_encoder_2": ("CLIPTextModel", "CLIPTokenizer"),
}
_SCHEDULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 7.0}


def is_pipeline(path: Path) -> bool:
    """Whether a folder is the root of a pipeline rather than of one model."""
    return (path / _INDEX).is_file() or (path / OFFICIAL_ROOT).is_dir() or (path / "text_encoder").is_dir()


def component_folder(layout: Layout, component: Component) -> Path:
    """Where a component lies below a pipeline's root."""
    if layout == "diffusers":
        return Path(component)
    return Path(OFFICIAL_ROOT) / ("transformers" if component == "transformer" else "vae")


def copy_companions(src: Path, dst: Path, layout: Layout, components: Iterable[Component]) -> None:
    """Copies text encoders, tokenizers and the files at the root of a pipeline, rearranged for `layout`."""
    for file in src.iterdir():
        if file.is_file() and file.name != _INDEX:
            shutil.copy2(file, dst / file.name)
    if (src / "adapters").is_dir():
        shutil.copytree(src / "adapters", dst / "adapters")
    for encoder, tokenizer in _TEXT.items():
        files = [file for part in (encoder, tokenizer) for file in sorted((src / part).glob("*")) if file.is_file()]
        for file in files:
            apart = layout == "diffusers" and any(fnmatch.fnmatch(file.name, name) for name in _TOKENIZER_FILES)
            target = dst / (tokenizer if apart else encoder) / file.name
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(file, target)
    if layout == "diffusers":
        _copy_or_make(
            src / "scheduler" / "scheduler_config.json", dst / "scheduler" / "scheduler_config.json", _SCHEDULER
        )
        _copy_or_make(src / _INDEX, dst / _INDEX, _model_index(dst, components))


def _copy_or_make(src: Path, dst: Path, content: dict) -> None:
    dst.parent.mkdir(exist_ok=True)
    if src.is_file():
        shutil.copy2(src, dst)
    else:
        dst.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _model_index(root: Path, components: Iterable[Component]) -> dict:
    """diffusers' table of the pipeline's parts: name -> package, class."""
    index: dict = {"_class_name": "HunyuanVideoPipeline", "scheduler": ["diffusers", _SCHEDULER["_class_name"]]}
    for encoder, tokenizer in _TEXT.items():
        model_class, tokenizer_class = _TEXT_CLASSES[encoder]
        if (root / encoder).is_dir():
            stated = _json(root / encoder / "config.json").get("architectures") or [model_class]
            index[encoder] = ["transformers", stated[0]]
        if (root / tokenizer).is_dir():
            stated = _json(root / tokenizer / "tokenizer_config.json").get("tokenizer_class")
            index[tokenizer] = ["transformers", stated or tokenizer_class]
    return index | {component: ["diffusers", CLASS_NAMES[component]["diffusers"]] for component in components}


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
