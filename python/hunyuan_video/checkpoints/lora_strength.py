"""Alpha of an adapter, from the file's header or the config beside it: a layer's change is scale * B A.

| written by | where | scale |
|---|---|---|
| kohya, ComfyUI, LyCORIS | an entry LAYER.alpha | alpha / rank |
| diffusers | header `lora_adapter_metadata`, JSON | PEFT's rule |
| SimpleTuner | header `transformer.lora_alpha`, ... | PEFT's rule |
| PEFT, diffusion-pipe | adapter_config.json beside adapter_model.safetensors | PEFT's rule |
| kohya, where the entries are lost | header `ss_network_alpha` | alpha / rank |

PEFT's rule: alpha / rank, or alpha / sqrt(rank) with use_rslora; alpha of the first expression in alpha_pattern that
matches the end of the module's name, else lora_alpha. An entry of a layer comes before everything else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hunyuan_video.errors import UserError

DIFFUSERS_KEY = "lora_adapter_metadata"
PEFT_FILE, PEFT_CONFIG = "adapter_model", "adapter_config.json"
STATED = (DIFFUSERS_KEY, "ss_network_alpha", "ss_network_dim")  # keys of a header
FIELDS = ("r", "lora_alpha", "alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "peft_type",
           "init_lora_weights", "layer_replication")  # fmt: skip
_FORMS = ("LORA", "LOHA", "LOKR")
# Initializations after which the base weights of the training are not those of the checkpoint any more.
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_PEFT_ALPHA = 8.0  # PEFT's default, for a config that does not say


@dataclass(frozen=True)
class Strength:
    """alpha as a file states it outside its layers. where: its place, for messages; "" where nothing is stated."""

    where: str = ""
    alpha: float | None = None
    rank: int | None = None
    rslora: bool = False
    dora: bool = False
    alphas: Mapping[str, float] = field(default_factory=dict)  # expression for the end of a module's name -> alpha
    ranks: Mapping[str, int] = field(default_factory=dict)

    def alpha_of(self, module: str) -> float | None:
        """alpha of a module under the name that the file gives it; None where nothing is stated."""
        return self.alphas.get(_matching(self.alphas, module), self.alpha)  # type: ignore[arg-type]

    def rank_of(self, module: str) -> int | None:
        """The rank that is stated for a module."""
        return self.ranks.get(_matching(self.ranks, module), self.rank)  # type: ignore[arg-type]

    def scale(self, module: str, rank: int | None) -> float:
        """Factor of a module's product; rank: of its tensors, None for a form without one."""
        alpha, rank = self.alpha_of(module), rank or self.rank_of(module)
        if alpha is None or rank is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def stated_strength(path: Path, metadata: Mapping[str, str], flat: bool) -> Strength:
    """Strength stated by the header of an adapter file, else by the config beside it. flat: with kohya's names."""
    if DIFFUSERS_KEY in metadata:
        where = f"{path}: {DIFFUSERS_KEY} of its header"
        return _peft(_without_prefix(_json(metadata[DIFFUSERS_KEY], where)), where)
    plain = _without_prefix({key: _value(text) for key, text in metadata.items() if not key.startswith("ss_")})
    if "lora_alpha" in plain:
        return _peft(plain, f"{path}: its header")
    config = path.parent / PEFT_CONFIG
    if config.is_file() and (path.stem == PEFT_FILE or len(list(path.parent.glob("*.safetensors"))) == 1):
        return _peft(_json(_text(config), str(config)), str(config))
    if flat and "ss_network_alpha" in metadata:
        where = f"{path}: ss_network_alpha of its header"
        alpha = _number(_value(metadata["ss_network_alpha"]), "ss_network_alpha", where)
        return Strength(where, alpha or None)  # kohya's 0 is the rank
    return Strength()


def _matching(patterns: Mapping[str, Any], module: str) -> str | None:
    """The first expression that fits the end of a name, as PEFT looks for it."""
    for pattern in patterns:
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return pattern
        except re.error:
            continue  # checked on reading
    return None


def _without_prefix(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the transformer: diffusers and SimpleTuner write `transformer.r`, a model of its own `r`."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        prefix, _, name = key.rpartition(".")
        if name in FIELDS and not prefix.startswith("text_encoder"):
            out[name] = value
    return out


def _peft(values: Mapping[str, Any], where: str) -> Strength:
    kind = str(values.get("peft_type") or "LORA").rpartition(".")[2].upper()
    if kind not in _FORMS:
        raise UserError(f"{where}: peft_type is {kind}; {', '.join(_FORMS)} can be loaded")
    start = values.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        raise UserError(
            f"{where}: the adapter was trained on weights that init_lora_weights={start!r} had changed; convert it to "
            "a plain LoRA with PEFT (save_pretrained with path_initial_model_for_weight_conversion)"
        )
    if values.get("layer_replication"):
        raise UserError(f"{where}: layer_replication makes another model; such an adapter cannot be loaded")
    alpha = values.get("lora_alpha" if kind == "LORA" else "alpha", _PEFT_ALPHA)
    rank = values.get("r")
    return Strength(
        where,
        _number(alpha, "lora_alpha", where),
        None if rank is None else int(_number(rank, "r", where)),
        bool(values.get("use_rslora")),
        bool(values.get("use_dora")),
        {key: _number(value, "alpha_pattern", where) for key, value in _table(values, "alpha_pattern", where).items()},
        {
            key: int(_number(value, "rank_pattern", where))
            for key, value in _table(values, "rank_pattern", where).items()
        },
    )


def _table(values: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    table = values.get(name) or {}
    if not isinstance(table, Mapping):
        raise UserError(f"{where}: {name} is no table of module names; restore it, or remove it for alpha = rank")
    for pattern in table:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"{where}: {name} has {pattern!r}, which is no regular expression: {error}") from None
    return table


def _number(value: Any, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where}: {name} is {value!r}, not a number; restore it, or remove it for alpha = rank")
    return float(value)


def _value(text: str) -> Any:
    """A header's text as what it stands for: a number, true or false, a table, else the text."""
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        return text


def _json(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON ({error}); download the file again") from error
    if not isinstance(values, dict):
        raise UserError(f"{where}: holds a JSON {type(values).__name__}, not a table; download the file again")
    return values


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
