"""Finding a model's tensors among the names of a file: prefixes of whole-pipeline files, ComfyUI's spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
_PREFIXES: dict[Component, tuple[str, ...]] = {
    "transformer": ("", "model.diffusion_model.", "diffusion_model.", "model.model.", "net.", "transformer.", "model."),
    "vae": ("", "vae.", "first_stage_model.", "model."),
}
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
# ComfyUI's notes on quantisation: activation scales and markers, nothing a model needs.
_NOT_WEIGHTS = re.compile(r"(^|\.)(scaled_fp8|scale_input|input_scale|comfy_quant)$")


def find_component(names: Iterable[str], component: Component) -> tuple[Layout | None, dict[str, str]]:
    """-> layout, {name without prefix, in the layout's spelling: name in the file}; (None, {}) if nothing is there.

    With a prefix only the names under it count (the file may hold a whole pipeline), without one all of them do.
    """
    names = [name for name in names if not _NOT_WEIGHTS.search(name)]
    best: tuple[int, Layout | None, str] = (0, None, "")
    for (owner, candidate), roots in _ROOTS.items():
        for prefix in _PREFIXES[component] if owner == component else ():
            starts = tuple(f"{prefix}{root}." for root in roots)
            count = sum(name.startswith(starts) for name in names)
            if count > best[0]:
                best = (count, candidate, prefix)
    _, layout, prefix = best
    if layout is None:
        return None, {}
    found = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    if component == "transformer" and layout == "official":
        found = {from_comfyui(name): original for name, original in found.items()}
    return layout, found


def from_comfyui(name: str) -> str:
    """A tensor's official name from the one that ComfyUI gives it; official names stay as they are."""
    for pattern, replacement in _COMFYUI:
        name = pattern.sub(replacement, name)
    return name
