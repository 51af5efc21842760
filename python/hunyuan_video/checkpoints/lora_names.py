"""Which weight an entry of an adapter file changes, whatever program wrote the file.

| written by | example |
|---|---|
| diffusers, PEFT | transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight |
| PEFT on the released model, ComfyUI trainers | diffusion_model.double_blocks.0.img_attn_qkv.lora_A.weight |
| ComfyUI's own module names | diffusion_model.double_blocks.0.img_attn.qkv.lora_down.weight |
| kohya, musubi-tuner | lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight, .alpha |
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from hunyuan_video.checkpoints.keys import diffusers_modules, module_templates, official_module
from hunyuan_video.checkpoints.names import from_comfyui

_PREFIX = re.compile(r"^(base_model\.model\.)?(model\.diffusion_model\.|diffusion_model\.|transformer\.|model\.)?")
_LEAF = re.compile(r"\.(?:lora_(?P<down>A|down)|lora_(?P<up>B|up))(?:\.[A-Za-z0-9_-]+)?\.weight$|\.(?P<alpha>alpha)$")
_KOHYA = re.compile(r"^lora_(?:unet|transformer)_")
TEXT_ENCODER = re.compile(r"^(lora_te\d?_|text_encoder(_\d)?\.|conditioner\.)")


class Target(NamedTuple):
    """An official module, which part of it (None: all of its rows), and what of the pair: A, B or alpha."""

    module: str
    part: int | None
    leaf: str


def lora_target(key: str) -> Target | None:
    """What an entry changes; None for a name that no known program writes."""
    found = _LEAF.search(key)
    if found is None:
        return None
    leaf = "A" if found["down"] else "B" if found["up"] else "alpha"
    name = key[: found.start()]
    if _KOHYA.match(name):
        return _underscored(_KOHYA.sub("", name), leaf)
    name = _PREFIX.sub("", name)
    theirs = official_module(name)
    if theirs is not None:
        return Target(theirs[0], theirs[1], leaf)
    ours = from_comfyui(f"{name}.weight").removesuffix(".weight")
    return Target(ours, None, leaf) if diffusers_modules(ours) else None


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str, int | None], ...]:
    """Names with underscores for dots, official ones first: (pattern, official template, part)."""
    rows: list[tuple[re.Pattern[str], str, int | None]] = []
    for official, theirs in module_templates().items():
        names: list[tuple[str, int | None]] = [(official, None), *((name, part) for part, name in enumerate(theirs))]
        for name, part in names:
            flat = (
                re.escape(name.replace(".", "_").replace("{}", "\0")).replace("\\\0", r"(\d+)").replace("\0", r"(\d+)")
            )
            rows.append((re.compile(flat), official, part))
    return tuple(sorted(rows, key=lambda row: row[2] is not None))


def _underscored(name: str, leaf: str) -> Target | None:
    for pattern, official, part in _patterns():
        found = pattern.fullmatch(name)
        if found is not None:
            return Target(official.format(*found.groups()), part, leaf)
    return None
