"""Writing adapters in the names of the program that is to read them.

| names | entries | alpha | read by |
|---|---|---|---|
| diffusers | transformer.transformer_blocks.0.attn.to_q.lora_A.weight | in B, and lora_adapter_metadata | diffusers |
| official | diffusion_model.double_blocks.0.img_attn_qkv.lora_A.weight | in B | ComfyUI; diffusers (13B sizes only) |
| kohya | lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight | .alpha, and ss_network_alpha | musubi-tuner |

"In B": B is multiplied by alpha / rank, so every reader applies the right strength, whatever it knows of alpha.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from hunyuan_video.checkpoints.keys import diffusers_modules, halves_swapped
from hunyuan_video.checkpoints.lora_build import Changes
from hunyuan_video.checkpoints.lora_strength import DIFFUSERS_KEY
from hunyuan_video.checkpoints.safetensors_file import TensorInfo, write_safetensors
from hunyuan_video.errors import UserError
from hunyuan_video.files import staged_file
from hunyuan_video.models.lora.forms import Adapter, Difference, DoRA, Form, LoHa, LoKr, Rows, halves_exchanged

Names = Literal["diffusers", "official", "kohya"]
NAMES: tuple[Names, ...] = ("diffusers", "official", "kohya")
PREFIX = "transformer."  # of diffusers' names
Tensors = dict[str, Tensor]


def write_adapter(
    path: Path,
    changes: Changes,
    names: Names = "diffusers",
    dtype: torch.dtype = torch.bfloat16,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes an adapter's changes; the same changes give the same bytes. UserError for a form the names cannot hold."""
    if names not in NAMES:
        raise ValueError(f"names={names!r} is unknown; use one of {', '.join(NAMES)}")
    writer: Callable[[Path, Changes], tuple[Tensors, dict[str, str]]]
    writer = {"diffusers": _diffusers, "official": _official, "kohya": _kohya}[names]
    tensors, header = writer(path, changes)
    kept = {key: value if key.endswith(".alpha") else value.to(dtype) for key, value in tensors.items()}
    infos = {key: TensorInfo(tuple(value.shape), value.dtype) for key, value in kept.items()}
    with staged_file(path) as file:
        write_safetensors(file, infos, kept.__getitem__, {**(metadata or {}), **header})
    return path


def _diffusers(path: Path, changes: Changes) -> tuple[Tensors, dict[str, str]]:
    tensors: Tensors = {}
    ranks: dict[str, int] = {}
    for module, form in changes.forms.items():
        direction = form.direction if isinstance(form, DoRA) else form
        if not isinstance(direction, Adapter):
            raise UserError(f"{path}: {module} is changed by a {_name(form)}, which diffusers' names cannot hold; use "
                            "the names official or kohya")  # fmt: skip
        rows = {"B": _scaled(direction)} | (
            {"magnitude": _magnitude(path, module, form)} if form is not direction else {}
        )
        for target, parts in split_rows(module, rows, direction.shape[1]).items():
            tensors[f"{PREFIX}{target}.lora_A.weight"] = direction.lora_A.detach()
            tensors[f"{PREFIX}{target}.lora_B.weight"] = parts["B"]
            if "magnitude" in parts:
                tensors[f"{PREFIX}{target}.lora_magnitude_vector"] = parts["magnitude"].flatten()
            ranks[target] = direction.rank
    if changes.patches:
        where = next(iter(changes.patches))
        raise UserError(f"{path}: the adapter changes {where}, which diffusers' names cannot hold; use the names "
                        "official or kohya")  # fmt: skip
    dora = any(isinstance(form, DoRA) for form in changes.forms.values())
    return tensors, {DIFFUSERS_KEY: json.dumps(_peft_config(ranks, dora), sort_keys=True)} if ranks else {}


def _peft_config(ranks: Mapping[str, int], dora: bool) -> dict[str, object]:
    """PEFT's config of pairs whose alpha is in B, as diffusers writes it into a header. ranks: by diffusers module."""
    usual = Counter(ranks.values()).most_common(1)[0][0]
    # "^": PEFT compares the end of a name, and "proj_out" is the end of other modules' names.
    others = {f"^{module}": rank for module, rank in ranks.items() if rank != usual}
    config = {"r": usual, "lora_alpha": usual, "rank_pattern": others, "alpha_pattern": others,
              "target_modules": sorted(ranks), "use_rslora": False, "use_dora": dora}  # fmt: skip
    return {f"{PREFIX}{name}": value for name, value in config.items()}


def split_rows(module: str, tensors: Mapping[str, Tensor], width: int) -> dict[str, Tensors]:
    """Diffusers module -> its rows of each tensor: q, k and v have `width` each, the MLP the rest."""
    names = diffusers_modules(module)
    if halves_swapped(module):
        return {names[0]: {key: halves_exchanged(value) for key, value in tensors.items()}}
    total = len(next(iter(tensors.values())))
    edges = pairwise([width * i for i in range(len(names))] + [total])
    return {
        name: {key: value[start:stop] for key, value in tensors.items()}
        for name, (start, stop) in zip(names, edges, strict=True)
    }


def _official(path: Path, changes: Changes) -> tuple[Tensors, dict[str, str]]:
    tensors: Tensors = {}
    for module, form in changes.forms.items():
        pieces = _pieces(path, module, form, fold=True)
        leaves = {"A": "lora_A.weight", "B": "lora_B.weight", "magnitude": "dora_scale"}
        tensors |= {f"diffusion_model.{module}.{leaves.get(leaf, leaf)}": value for leaf, value in pieces.items()}
    tensors |= {f"diffusion_model.{name}": value for name, value in _differences(changes)}
    return tensors, {}


def _kohya(path: Path, changes: Changes) -> tuple[Tensors, dict[str, str]]:
    tensors: Tensors = {}
    alphas: Counter[tuple[int, float]] = Counter()
    for module, form in changes.forms.items():
        pieces = _pieces(path, module, form, fold=False)
        leaves = {"A": "lora_down.weight", "B": "lora_up.weight", "magnitude": "dora_scale"}
        flat = f"lora_unet_{module.replace('.', '_')}"
        tensors |= {f"{flat}.{leaves.get(leaf, leaf)}": value for leaf, value in pieces.items()}
        direction = form.direction if isinstance(form, DoRA) else form
        if isinstance(direction, Adapter):
            tensors[f"{flat}.alpha"] = torch.tensor(direction.alpha, dtype=torch.float32, device="cpu")
            alphas[direction.rank, direction.alpha] += 1
        elif rank := next((len(pieces[leaf]) for leaf in ("hada_w1_b", "lokr_w1_b", "lokr_w2_b") if leaf in pieces), 0):
            tensors[f"{flat}.alpha"] = torch.tensor(
                float(rank), dtype=torch.float32, device="cpu"
            )  # the scale is in the factors
    for name, value in _differences(changes):
        module, _, leaf = name.rpartition(".")
        tensors[f"lora_unet_{module.replace('.', '_')}.{leaf}"] = value
    if not alphas:
        return tensors, {}
    (rank, alpha), _ = alphas.most_common(1)[0]
    header = {"ss_network_module": "networks.lora", "ss_network_dim": str(rank), "ss_network_alpha": str(alpha)}
    return tensors, header


def _pieces(path: Path, module: str, form: Form, fold: bool) -> Tensors:
    """Leaf -> tensor of a form on a whole module. fold: alpha / rank of a pair goes into B."""
    if isinstance(form, DoRA):
        return _pieces(path, module, form.direction, fold) | {"magnitude": form.get_buffer("magnitude")}
    if isinstance(form, Adapter):
        return {"A": form.lora_A.detach(), "B": _scaled(form) if fold else form.lora_B.detach()}
    if isinstance(form, Difference):
        return {"diff": form.get_buffer("change")}
    if isinstance(form, LoHa):
        names = {"hada_w1_a": "b1", "hada_w1_b": "a1", "hada_w2_a": "b2", "hada_w2_b": "a2"}
        pieces = {leaf: form.get_buffer(name) for leaf, name in names.items()}
        return pieces | {"hada_w1_a": pieces["hada_w1_a"] * form.scale}
    if isinstance(form, LoKr):
        pieces = {}
        for factor, count in zip(("w1", "w2"), form.counts, strict=True):
            for number in range(count):
                leaf = f"lokr_{factor}" + ("" if count == 1 else f"_{'ab'[number]}")
                pieces[leaf] = form.get_buffer(f"{factor}_{number}")
        first = next(iter(pieces))
        return pieces | {first: pieces[first] * form.scale}
    assert isinstance(form, Rows)
    raise UserError(
        f"{path}: {module} is changed in parts of several forms; merge the adapter into the weights instead"
    )


def _differences(changes: Changes) -> list[tuple[str, Tensor]]:
    """('single_blocks.0.q_norm.diff', values) of the parameters that are changed by a difference."""
    out = []
    for name, value in changes.patches.items():
        module, _, leaf = name.rpartition(".")
        out.append((f"{module}.{'diff_b' if leaf == 'bias' else 'diff'}", value))
    return out


def _scaled(pair: Adapter) -> Tensor:
    """B * alpha / rank."""
    return pair.lora_B.detach() * (pair.alpha / pair.rank)


def _magnitude(path: Path, module: str, form: Form) -> Tensor:  # -> [N, 1]
    magnitude = form.get_buffer("magnitude")
    if len(magnitude) != form.shape[0]:
        raise UserError(f"{path}: {module} is a DoRA by columns, which diffusers' names cannot hold; use the names "
                        "official or kohya")  # fmt: skip
    return magnitude


def _name(form: Form) -> str:
    return f"DoRA of {_name(form.direction)}" if isinstance(form, DoRA) else type(form).__name__
