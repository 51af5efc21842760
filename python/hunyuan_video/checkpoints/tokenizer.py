"""Tokenizers from Hugging Face folders: tokenizer.json through `tokenizers`, other files through transformers."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from hunyuan_video.checkpoints.layout import TEXT
from hunyuan_video.errors import UserError
from hunyuan_video.files import read_json
from hunyuan_video.models.text.tokens import NativeTokenizer, Tokenizer, TransformersTokenizer

VOCABULARIES = ("tokenizer.json", "*.model", "vocab.*", "merges.txt")
LLAMA_CLASSES = ("LlamaTokenizer", "LlamaTokenizerFast")  # these set begin and end tokens from tokenizer_config.json


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer in `folder`. Raises UserError, one line that names the file, when it cannot be read."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of a tokenizer (tokenizer.json)")
    if (folder / "tokenizer.json").exists():
        return _native(folder)
    if not any(file for name in VOCABULARIES for file in folder.glob(name)):
        beside = folder.parent / TEXT.get(folder.name, "")
        missing = f", and {beside} is missing" if folder.name in TEXT else ""
        raise UserError(f"{folder} holds no tokenizer (tokenizer.json){missing}; copy or download it again")
    transformers = transformers_package(f"{folder} has no tokenizer.json")
    try:
        return TransformersTokenizer(transformers.AutoTokenizer.from_pretrained(str(folder)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: transformers cannot load a tokenizer ({str(error).splitlines()[0]})") from error


def transformers_package(why: str) -> ModuleType:
    """The transformers package; UserError with the command that installs it where it is missing."""
    try:
        import transformers
    except ImportError as error:
        raise UserError(f"{why}, which needs transformers: pip install 'transformers>=4.45'") from error
    return transformers


def _native(folder: Path) -> NativeTokenizer:
    from tokenizers import Tokenizer as Library

    path = folder / "tokenizer.json"
    try:
        tokenizer = Library.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"{path}: not a tokenizer ({error}); download it again") from error
    config = _optional_json(folder / "special_tokens_map.json") | _optional_json(folder / "tokenizer_config.json")
    special = {name: _content(config, f"{name}_token", folder) for name in ("bos", "eos", "pad")}
    if config.get("tokenizer_class") in LLAMA_CLASSES:
        _add_ends(tokenizer, config, special)
    ids = [tokenizer.token_to_id(token) for token in (special["pad"], special["eos"]) if token]
    # Without a pad token any id will do: padding is masked, and CLIP's pooled token stands before it.
    return NativeTokenizer(tokenizer, next((i for i in ids if i is not None), 0))


def _add_ends(tokenizer: Any, config: dict[str, Any], special: dict[str, str | None]) -> None:
    """Begin token unless add_bos_token is false, end token if add_eos_token is true: the rule of LlamaTokenizer."""
    from tokenizers.processors import TemplateProcessing

    ends = {
        "bos": config.get("add_bos_token", True) and special["bos"],
        "eos": config.get("add_eos_token", False) and special["eos"],
    }
    if config.get("add_bos_token", True) and tokenizer.token_to_id(special["bos"] or "") is None:
        return
    pieces = [ends["bos"], "$A", ends["eos"]]
    tokens = [(t, tokenizer.token_to_id(t)) for t in (ends["bos"], ends["eos"]) if t]
    tokenizer.post_processor = TemplateProcessing(single=[p for p in pieces if p], special_tokens=tokens)


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _content(config: dict[str, Any], name: str, folder: Path) -> str | None:
    """The text of a special token, which is stored as a string or as {"content": ...}."""
    token = config.get(name)
    text = token.get("content") if isinstance(token, dict) else token
    if text is not None and not isinstance(text, str):
        raise UserError(f"{folder}: {name} of its tokenizer must be a text, got {text!r}; restore the file")
    return text
