"""Which weight an entry of an adapter file changes and how, whatever program wrote the file.

| names | example |
|---|---|
| diffusers (PEFT) | transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight |
| official: PEFT on the released model, diffusion-pipe | diffusion_model.double_blocks.0.img_attn_qkv.lora_A.weight |
| ComfyUI | diffusion_model.double_blocks.0.img_attn.qkv.lora_down.weight |
| kohya: sd-scripts, musubi-tuner, LyCORIS | lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight |

Prefixes are known by their words, alone, together or doubled: `transformer.`, `diffusion_model.`, `model.`,
`base_model.model.`, `lora_unet_`, `lora_transformer_`, `lycoris_`, `Hunyuan_video_I2V_lora_` and their like.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from hunyuan_video.checkpoints.keys import diffusers_modules, module_templates, official_module
from hunyuan_video.checkpoints.names import from_comfyui

TEXT_ENCODER = re.compile(
    r"^(base_model\.model\.)?(lora_te\d?_|text_encoders?(_\d)?\.|text_model\.|te\d?\.|conditioner\.)"
)
WEIGHT_BIAS = ("set", "set_bias")  # leaves that give a parameter itself

_ADAPTER = r"(?:\.(?!weight$|bias$)[A-Za-z0-9_-]+)?"  # the name of an adapter in PEFT's modules
_LEAVES = tuple(
    (leaf, re.compile(pattern))
    for leaf, pattern in (
        ("A", rf"(?:\.lora_(?:A|down)|[._]lora\.down|\.lora_linear_layer\.down){_ADAPTER}(?:\.weight)?$"),
        ("B", rf"(?:\.lora_(?:B|up)|[._]lora\.up|\.lora_linear_layer\.up){_ADAPTER}(?:\.weight)?$"),
        ("B_bias", rf"\.lora_(?:B|up){_ADAPTER}\.bias$"),
        ("alpha", r"\.alpha$"),
        ("magnitude", rf"\.(?:dora_scale|lora_magnitude_vector{_ADAPTER})(?:\.weight)?$"),
        *((name, rf"\.{name}{_ADAPTER}$") for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")),
        *((f"lokr_{name}", rf"\.lokr_{name}{_ADAPTER}$") for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b")),
        ("diff", r"\.(?:diff|w_norm)$"),
        ("bias", r"\.(?:diff_b|b_norm)$"),
        ("set", r"(?:\.set_weight|\.modules_to_save(?:\.[A-Za-z0-9_-]+)?\.weight|\.base_layer\.weight)$"),
        ("set_bias", r"(?:\.modules_to_save(?:\.[A-Za-z0-9_-]+)?|\.base_layer)\.bias$"),
        ("set", r"\.weight$"),
        ("set_bias", r"\.bias$"),
    )
)
# Forms of adapters that this package does not compute, by what their entries end in.
_OTHER_FORMS = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"\.(hada_t[12]|lokr_t[12]|lora_mid(\.weight)?)$", "a Tucker decomposition of a convolution"),
        (r"\.(oft_blocks|oft_diag|oft_[rR]|boft_[rRs])(\.|$)", "an orthogonal adapter (OFT)"),
        (r"\.(a1|a2|b1|b2)\.weight$", "a GLoRA adapter"),
        (r"\.(ia3_l|on_input)(\.|$)", "an (IA)3 adapter"),
        (r"\.vera_lambda_[bd](\.|$)", "a VeRA adapter"),
        (r"\.lora_embedding_[AB](\.|$)", "an adapter of an embedding"),
        (r"\.reshape_weight$", "a change of a weight's shape"),
        (r"\.lora_(A|down)\.bias$", "a bias within the low-rank product"),
        (r"\.(scalar|rescale)$", "a factor of LyCORIS that its own files have multiplied in"),
    )
)
_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
# What may stand before a module's name: words between dots, or between underscores in flat names.
_WORD = re.compile(
    r"(?i)(base_model|model|diffusion_model|transformer|module|net|unet|dit|.*lora.*|.*hunyuan.*|.*hyvideo.*)"
)
_FLAT_WORDS = re.compile(
    r"(?i)(lora|lycoris|unet|transformer|diffusion|model|dit|net|base|module|hunyuan|hunyuanvideo|hyvideo|video|i2v|t2v)_+"
)
# ComfyUI's module names with underscores for dots -> official ones, where they differ.
_FLAT_COMFYUI = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(_mod|_modulation)_lin$", r"\1_linear"),
        (r"(img_mlp|txt_mlp|blocks_\d+_mlp)_0$", r"\1_fc1"),
        (r"(img_mlp|txt_mlp|blocks_\d+_mlp)_2$", r"\1_fc2"),
        (r"^(time_in|guidance_in|txt_in_t_embedder)_in_layer$", r"\1_mlp_0"),
        (r"^(time_in|guidance_in|txt_in_t_embedder)_out_layer$", r"\1_mlp_2"),
        (r"^txt_in_c_embedder_in_layer$", "txt_in_c_embedder_linear_1"),
        (r"^txt_in_c_embedder_out_layer$", "txt_in_c_embedder_linear_2"),
        (r"_attn_norm_(q|k)\w+_norm$", r"_attn_\1_norm"),
        (r"^(single_blocks_\d+)_norm_(q|k)\w+_norm$", r"\1_\2_norm"),
    )
)


class Target(NamedTuple):
    """Target of an entry: what it changes.

    module: an official one. part: which of the diffusers modules in it (None: all of its rows). leaf: which piece of
    the change, e.g. A, B, alpha. name: the module as the file calls it, without prefix. names: whose names they are.
    """

    module: str
    part: int | None
    leaf: str
    name: str = ""
    names: str = ""


def lora_target(key: str) -> Target | None:
    """Target of an entry; None for a name that no known program writes."""
    key = _WRAPPERS.sub("", key).removeprefix(".")
    for leaf, pattern in _LEAVES:
        match = pattern.search(key)
        if match is not None:
            place = _module(key[: match.start()])
            return None if place is None else Target(place[0], place[1], leaf, place[2], place[3])
    return None


def other_form(key: str) -> str | None:
    """Kind of an entry's adapter if that is known but not supported, else None."""
    return next((what for pattern, what in _OTHER_FORMS if pattern.search(key)), None)


def _module(name: str) -> tuple[str, int | None, str, str] | None:
    """(official module, part, the name without prefix, whose names) of a module's name in a file."""
    while True:
        place = _named(name)
        if place is not None:
            return place
        word, dot, rest = name.partition(".")
        if not dot or not _WORD.fullmatch(word):
            return _flat(name) if "." not in name else None
        name = rest


def _named(name: str) -> tuple[str, int | None, str, str] | None:
    theirs = official_module(name)
    if theirs is not None:
        return theirs[0], theirs[1], name, "diffusers"
    ours = from_comfyui(f"{name.removesuffix('.scale')}.weight").removesuffix(".weight")
    if diffusers_modules(ours):
        return ours, None, name, "official" if ours == name else "ComfyUI"
    return None


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str, int | None], ...]:
    """Names with underscores for dots, official ones first: (pattern, official template, part)."""
    rows: list[tuple[re.Pattern[str], str, int | None]] = []
    for official, theirs in module_templates().items():
        names: list[tuple[str, int | None]] = [(official, None), *((name, part) for part, name in enumerate(theirs))]
        for name, part in names:
            flat = re.escape(name.replace(".", "_").replace("{}", "0")).replace("_0_", r"_(\d+)_", name.count("{}"))
            rows.append((re.compile(flat), official, part))
    return tuple(sorted(rows, key=lambda row: row[2] is not None))


def _flat(name: str) -> tuple[str, int | None, str, str] | None:
    """As `_module`, for names with underscores for dots, from which prefixes are taken word by word."""
    marked = False
    while True:
        if marked and (place := _underscored(name)) is not None:
            return (*place, name, "kohya")
        word = _FLAT_WORDS.match(name)
        if word is None:
            return None
        marked = marked or word[1].lower() in ("lora", "lycoris")
        name = name[word.end() :]


def _underscored(name: str) -> tuple[str, int | None] | None:
    for pattern, replacement in _FLAT_COMFYUI:
        name = pattern.sub(replacement, name)
    for expression, official, part in _patterns():
        match = expression.fullmatch(name)
        if match is not None:
            return official.format(*match.groups()), part
    return None
