"""Names of the transformer's tensors in the official and the diffusers layout, and the way from one to the other.

The VAE has the same names in both. Official modules that fuse several projections are the diffusers ones stacked along
their rows: `double_blocks.0.img_attn_qkv` = to_q | to_k | to_v.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

from hunyuan_video.checkpoints.safetensors_file import TensorInfo
from hunyuan_video.checkpoints.sources import Piece

SCALE = "weight_scale"  # leaf name of an FP8 weight's scale
Pieces = dict[str, tuple[Piece, ...]]

# official module, diffusers modules; {} is a block index.
_REFINER = ("txt_in.individual_token_refiner.blocks.{}.", "context_embedder.token_refiner.refiner_blocks.{}.")
_DOUBLE = ("double_blocks.{}.", "transformer_blocks.{}.")
_SINGLE = ("single_blocks.{}.", "single_transformer_blocks.{}.")
_TOP_LEVEL = (
    ("img_in.proj", "x_embedder.proj"),
    ("time_in.mlp.0", "time_text_embed.timestep_embedder.linear_1"),
    ("time_in.mlp.2", "time_text_embed.timestep_embedder.linear_2"),
    ("guidance_in.mlp.0", "time_text_embed.guidance_embedder.linear_1"),
    ("guidance_in.mlp.2", "time_text_embed.guidance_embedder.linear_2"),
    ("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
    ("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
    ("txt_in.input_embedder", "context_embedder.proj_in"),
    ("txt_in.t_embedder.mlp.0", "context_embedder.time_text_embed.timestep_embedder.linear_1"),
    ("txt_in.t_embedder.mlp.2", "context_embedder.time_text_embed.timestep_embedder.linear_2"),
    ("txt_in.c_embedder.linear_1", "context_embedder.time_text_embed.text_embedder.linear_1"),
    ("txt_in.c_embedder.linear_2", "context_embedder.time_text_embed.text_embedder.linear_2"),
    ("final_layer.linear", "proj_out"),
    ("final_layer.adaLN_modulation.1", "norm_out.linear"),
)
_PER_BLOCK = {
    _REFINER: (
        ("norm1", "norm1"),
        ("norm2", "norm2"),
        ("self_attn_qkv", "attn.to_q", "attn.to_k", "attn.to_v"),
        ("self_attn_proj", "attn.to_out.0"),
        ("mlp.fc1", "ff.net.0.proj"),
        ("mlp.fc2", "ff.net.2"),
        ("adaLN_modulation.1", "norm_out.linear"),
    ),
    _DOUBLE: (
        ("img_mod.linear", "norm1.linear"),
        ("img_attn_qkv", "attn.to_q", "attn.to_k", "attn.to_v"),
        ("img_attn_q_norm", "attn.norm_q"),
        ("img_attn_k_norm", "attn.norm_k"),
        ("img_attn_proj", "attn.to_out.0"),
        ("img_mlp.fc1", "ff.net.0.proj"),
        ("img_mlp.fc2", "ff.net.2"),
        ("txt_mod.linear", "norm1_context.linear"),
        ("txt_attn_qkv", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        ("txt_attn_q_norm", "attn.norm_added_q"),
        ("txt_attn_k_norm", "attn.norm_added_k"),
        ("txt_attn_proj", "attn.to_add_out"),
        ("txt_mlp.fc1", "ff_context.net.0.proj"),
        ("txt_mlp.fc2", "ff_context.net.2"),
    ),
    _SINGLE: (
        ("linear1", "attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        ("linear2", "proj_out"),
        ("q_norm", "attn.norm_q"),
        ("k_norm", "attn.norm_k"),
        ("modulation.linear", "norm.linear"),
    ),
}
# Its rows are shift | scale in the official layout and scale | shift in diffusers'.
_SWAPPED = "final_layer.adaLN_modulation.1"


def _all_rules() -> Iterator[tuple[str, tuple[str, ...]]]:
    for official, theirs in _TOP_LEVEL:
        yield official, (theirs,)
    for (prefix, their_prefix), modules in _PER_BLOCK.items():
        for official, *names in modules:
            yield prefix + official, tuple(their_prefix + name for name in names)


_TO_DIFFUSERS = dict(_all_rules())
_TO_OFFICIAL = {name: (official, i) for official, names in _TO_DIFFUSERS.items() for i, name in enumerate(names)}
_INDEX = re.compile(r"(?<=blocks\.)\d+(?=\.)")


def _split(key: str) -> tuple[str, str, str]:
    """'double_blocks.3.img_mod.linear.bias' -> ('double_blocks.{}.img_mod.linear', '3', 'bias')."""
    module, _, leaf = key.rpartition(".")
    index = _INDEX.search(module)
    return _INDEX.sub("{}", module, count=1), index.group() if index else "", leaf


def module_templates() -> Mapping[str, tuple[str, ...]]:
    """Official modules and the diffusers ones that they are the stack of, with {} in the place of a block's number."""
    return _TO_DIFFUSERS


def diffusers_modules(path: str) -> tuple[str, ...]:
    """The diffusers modules that an official one is the stack of; () where it has no counterpart."""
    index = _INDEX.search(path)
    names = _TO_DIFFUSERS.get(_INDEX.sub("{}", path, count=1), ())
    return tuple(name.format(index.group() if index else "") for name in names)


def official_module(path: str) -> tuple[str, int] | None:
    """The official module that a diffusers one is a part of, and which part; None where it has no counterpart."""
    index = _INDEX.search(path)
    official, part = _TO_OFFICIAL.get(_INDEX.sub("{}", path, count=1), (None, 0))
    return None if official is None else (official.format(index.group() if index else ""), part)


def halves_swapped(path: str) -> bool:
    """True if the two halves of an official module's rows stand in the other order in diffusers."""
    return path == _SWAPPED


def official_to_diffusers(infos: Mapping[str, TensorInfo]) -> Pieces:
    """Every diffusers tensor as rows of the official ones in `infos`; unknown names stay as they are."""
    out: Pieces = {}
    for key, info in infos.items():
        template, index, leaf = _split(key)
        targets = _TO_DIFFUSERS.get(template)
        if targets is None:
            out[key] = (Piece(key),)
        elif template == _SWAPPED:
            out[f"{targets[0]}.{leaf}"] = _swapped(key, info)
        else:
            for name, rows in zip(targets, _row_ranges(key, infos, len(targets)), strict=True):
                out[f"{name.format(index)}.{leaf}"] = (Piece(key, rows),)
    return out


def diffusers_to_official(infos: Mapping[str, TensorInfo]) -> Pieces:
    """Every official tensor as a stack of the diffusers ones in `infos`; unknown names stay as they are.

    A fused tensor of which a part is missing is left out, and the parts at hand keep their diffusers names.
    """
    fused: dict[str, dict[int, str]] = {}
    out: Pieces = {}
    for key, info in infos.items():
        template, index, leaf = _split(key)
        official, position = _TO_OFFICIAL.get(template, (None, 0))
        if official is None:
            out[key] = (Piece(key),)
        elif official == _SWAPPED:
            out[f"{official}.{leaf}"] = _swapped(key, info)
        else:
            fused.setdefault(f"{official.format(index)}.{leaf}", {})[position] = key
    for target, parts in fused.items():
        if len(parts) < len(_TO_DIFFUSERS[_split(target)[0]]):
            out |= {key: (Piece(key),) for key in parts.values()}
        else:
            out[target] = tuple(_stacked(parts[i], infos, len(parts)) for i in range(len(parts)))
    return out


def _swapped(key: str, info: TensorInfo) -> tuple[Piece, ...]:
    if info.count == 1:  # a per-tensor FP8 scale
        return (Piece(key),)
    half = info.shape[0] // 2
    return (Piece(key, (half, 2 * half)), Piece(key, (0, half)))


def _row_ranges(key: str, infos: Mapping[str, TensorInfo], parts: int) -> list[tuple[int, int] | None]:
    """Rows of each diffusers tensor in an official one: q, k, v as many as the model is wide, proj_mlp the rest."""
    shape = infos[key].shape
    if parts == 1 or infos[key].count == 1:  # a per-tensor FP8 scale is every part's scale
        return [None] * parts
    width = infos[key.rpartition(".")[0] + ".weight"].shape[1]
    edges = [width * i for i in range(parts)] + [shape[0]]
    return list(pairwise(edges))


def _stacked(key: str, infos: Mapping[str, TensorInfo], parts: int) -> Piece:
    if parts > 1 and key.endswith(f".{SCALE}") and infos[key].count == 1:
        return Piece(key, repeat=infos[key.removesuffix(SCALE) + "weight"].shape[0])
    return Piece(key)
