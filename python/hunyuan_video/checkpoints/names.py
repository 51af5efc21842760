"""Finding a model's tensors among the names of a file: prefixes of whole-pipeline files, ComfyUI's spelling."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

Component = Literal["transformer", "vae"]
Layout = Literal["official", "diffusers"]

# First part of the names of each component in each layout. The VAE's are the same in both.
_ROOTS: dict[tuple[Component, Layout], tuple[str, ...]] = {
    ("transformer", "official"): (
        *("img_in", "txt_in", "time_in", "vector_in", "guidance_in"),
        *("double_blocks", "single_blocks", "final_layer"),
    ),
    ("transformer", "diffusers"): (
        *("x_embedder", "context_embedder", "time_text_embed"),
        *("transformer_blocks", "single_transformer_blocks", "norm_out", "proj_out"),
    ),
    ("vae", "official"): ("encoder", "decoder", "quant_conv", "post_quant_conv"),
}
# What may stand before these, in any order and number: names of a whole pipeline's parts, and of wrappers.
_WRAPPERS = ("module", "model", "state_dict", "ema", "ema_model", "model_ema", "ema_state_dict", "net", "generator")
_WORDS: dict[Component, tuple[str, ...]] = {
    "transformer": ("diffusion_model", "transformer", "dit", *_WRAPPERS),
    "vae": ("vae", "first_stage_model", "autoencoder", *_WRAPPERS),
}
# torch.compile, FSDP and activation checkpointing put these before any module's name.
_INSERTED = re.compile(r"(?:^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# ComfyUI saves the transformer under the module names of its own implementation.
_COMFYUI = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^(time_in|guidance_in|txt_in\.t_embedder)\.in_layer\.", r"\1.mlp.0."),
        (r"^(time_in|guidance_in|txt_in\.t_embedder)\.out_layer\.", r"\1.mlp.2."),
        (r"^txt_in\.c_embedder\.in_layer\.", "txt_in.c_embedder.linear_1."),
        (r"^txt_in\.c_embedder\.out_layer\.", "txt_in.c_embedder.linear_2."),
        (r"(_mod|\.modulation)\.lin\.", r"\1.linear."),
        (r"_attn\.(qkv|proj)\.", r"_attn_\1."),
        (r"_attn\.norm\.(query|key)_norm\.(scale|weight)$", lambda m: f"_attn_{m[1][0]}_norm.weight"),
        (r"^(single_blocks\.\d+)\.norm\.(query|key)_norm\.(scale|weight)$", lambda m: f"{m[1]}.{m[2][0]}_norm.weight"),
        (r"(_mlp|blocks\.\d+\.mlp)\.0\.", r"\1.fc1."),
        (r"(_mlp|blocks\.\d+\.mlp)\.2\.", r"\1.fc2."),
        (r"\.scale_weight$", ".weight_scale"),
    )
)
_VAE_LEVEL = re.compile(r"^decoder\.up\.(\d+)\.")
_VAE_COMFYUI: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1."),
        (r"(_blocks\.\d+)\.block\.", r"\1.resnets."),
        (r"(_blocks\.\d+)\.(down|up)sample\.", r"\1.\2samplers.0."),
        (r"\.mid\.block_(\d+)\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}."),
        (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
        (r"(attentions\.0)\.norm\.", r"\1.group_norm."),
        (r"(attentions\.0)\.(q|k|v)\.", r"\1.to_\2."),
        (r"(attentions\.0)\.(query|key|value)\.", lambda m: f"{m[1]}.to_{m[2][0]}."),
        (r"(attentions\.0)\.proj_(out|attn)\.", r"\1.to_out.0."),
        (r"\.nin_shortcut\.", ".conv_shortcut."),
        (r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out."),
    )
)
# ComfyUI's notes on quantization: activation scales and markers, nothing a model needs.
_NOT_WEIGHTS = re.compile(r"(^|\.)(scaled_fp8|scale_input|input_scale|comfy_quant)$")


def find_component(names: Iterable[str], component: Component) -> tuple[Layout | None, dict[str, str]]:
    """-> layout, {name without prefix, in the layout's spelling: name in the file}; (None, {}) if nothing is there.

    With a prefix only the names under it count (the file may hold a whole pipeline), without one all of them do. Of
    several copies of the weights the larger one is taken, and not the average (EMA) of equal ones.
    """
    plain = {_INSERTED.sub("", name): name for name in names if not _NOT_WEIGHTS.search(name)}
    counts: Counter[tuple[Layout, str]] = Counter()
    for name in plain:
        counts.update(_places(name, component))
    if not counts:
        return None, {}
    layout, prefix = max(counts, key=lambda place: (counts[place], "ema" not in place[1], -len(place[1])))
    originals = {name.removeprefix(prefix): original for name, original in plain.items() if name.startswith(prefix)}
    if component == "vae":
        levels = 1 + max((int(m[1]) for m in map(_VAE_LEVEL.match, originals) if m), default=0)
        originals = {vae_from_comfyui(name, levels): original for name, original in originals.items()}
    elif layout == "official":
        originals = {from_comfyui(name): original for name, original in originals.items()}
    return layout, originals


def _places(name: str, component: Component) -> Iterator[tuple[Layout, str]]:
    """(layout, prefix) of every way to read a name as one of a component's."""
    prefix, rest = "", name
    while rest:
        word, _, rest = rest.partition(".")
        for (owner, layout), roots in _ROOTS.items():
            if owner == component and rest and word in roots:
                yield layout, prefix
        if word not in _WORDS[component]:
            return
        prefix += f"{word}."


def from_comfyui(name: str) -> str:
    """A tensor's official name from the one that ComfyUI gives it; official names stay as they are."""
    for pattern, replacement in _COMFYUI:
        name = pattern.sub(replacement, name)
    return name


def vae_from_comfyui(name: str, levels: int) -> str:
    """A VAE tensor's official name from that of ComfyUI (latent diffusion's); official names stay as they are.

    levels: how many the decoder has; latent diffusion counts them from the pixels, the released model from the latents.
    """
    name = _VAE_LEVEL.sub(lambda m: f"decoder.up_blocks.{levels - 1 - int(m[1])}.", name)
    for pattern, replacement in _VAE_COMFYUI:
        name = pattern.sub(replacement, name)
    return name
