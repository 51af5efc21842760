"""An adapter file by its layers: which entries change which module, at which scale, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hunyuan_video.checkpoints.lora_names import TEXT_ENCODER, WEIGHT_BIAS, Target, lora_target, other_form
from hunyuan_video.checkpoints.lora_origin import settings_text, stated_settings
from hunyuan_video.checkpoints.lora_strength import stated_strength
from hunyuan_video.checkpoints.pickle_file import PickleFile
from hunyuan_video.checkpoints.safetensors_file import SafetensorsFile
from hunyuan_video.errors import UserError

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_FAMILIES = {"A": "LoRA", "hada": "LoHa", "lokr": "LoKr", "diff": "difference", "set": "whole weight"}
_TRIGGERS = ("trigger_words", "modelspec.trigger_phrase", "ss_trigger_words")
Leaves = dict[str, str]  # leaf -> the entry's key


@dataclass(frozen=True)
class Layer:
    """Entries of a file for a module, or for the part of it that is a diffusers module (None: for all of its rows)."""

    module: str
    part: int | None
    name: str  # in the file, without prefix
    leaves: Leaves
    scale: float  # of the product; alpha / rank as a rule
    alpha: float | None
    rank: int | None

    @property
    def form(self) -> str:
        """Kind of the adapter, in one word or two."""
        kinds = [what for leaf, what in _FAMILIES.items() if any(key.startswith(leaf) for key in self.weight_leaves)]
        return ("DoRA of " if "magnitude" in self.leaves else "") + " and ".join(kinds or ["bias"])

    @property
    def weight_leaves(self) -> list[str]:
        """The leaves that change the weight itself."""
        return [leaf for leaf in self.leaves if leaf.partition("_")[0] in ("A", "hada", "lokr", "diff", "set")
                and leaf != "set_bias"]  # fmt: skip


class AdapterFile:
    """An adapter file, opened and understood, the large tensors not read yet. UserError names file and entry.

    layers: what it changes, in the file's order. settings: sampling defaults that go with it. left_out: entries of
    text encoders, which are not loaded. notices: what a user should know before it is used.
    """

    def __init__(self, path: str | Path):
        self.path = path = Path(path)
        self._file = SafetensorsFile(path) if path.suffix == ".safetensors" else PickleFile(path)
        self.metadata: Mapping[str, str] = self._file.metadata
        self.left_out: list[str] = []
        self.notices: list[str] = []
        self._targets: dict[str, Target] = {}
        grouped = self._grouped()
        self.names = " and ".join(dict.fromkeys(target.names for target in self._targets.values()))
        flat = all(target.names == "kohya" for target in self._targets.values())
        self.strength = stated_strength(path, self.metadata, flat)
        self.layers = [
            self._layer(module, part, leaves) for module, parts in grouped.items() for part, leaves in parts.items()
        ]
        self._check_stated()
        self.settings = stated_settings(path, self.metadata)

    def tensor(self, key: str) -> Tensor:
        """An entry as float32; UserError where it holds values that are no finite numbers."""
        info = self._file.infos[key]
        tensor = torch.empty(info.shape, dtype=torch.float32, device="cpu")
        self._file.read_into(tensor, key)
        if not (info.dtype.is_floating_point or key.endswith(".alpha")) or not tensor.isfinite().all():
            raise UserError(f"{self.path}: {key!r} holds values that are no finite numbers; the file is damaged")
        return tensor

    def main_dtype(self) -> torch.dtype:
        """The dtype of most of its numbers; bfloat16 for a file that cannot be written as it is (FP8)."""
        counts: Counter[torch.dtype] = Counter()
        for key in self._targets:
            counts[self._file.infos[key].dtype] += self._file.infos[key].count
        dtype = counts.most_common(1)[0][0]
        return dtype if dtype in (torch.float32, torch.float16, torch.bfloat16) else torch.bfloat16

    def summary(self) -> str:
        """One line: forms, names, layers, rank, alpha and the strength that follows."""
        forms = ", ".join(f"{count} x {form}" for form, count in Counter(layer.form for layer in self.layers).items())
        ranked = [layer for layer in self.layers if layer.rank]
        parts = [f"{forms} in {self.names} names", f"{len({layer.module for layer in self.layers})} layers"]
        if ranked:
            ranks, scales = [layer.rank or 0 for layer in ranked], [layer.scale for layer in ranked]
            parts.append(f"rank {_span(ranks)}, {self._alpha_text()}: strength {_span(scales)}")
        triggers = next((self.metadata[key] for key in _TRIGGERS if self.metadata.get(key)), None)
        parts += [f"trigger words: {triggers}"] if triggers else []
        parts += [f"made for {settings_text(self.settings)}"] if self.settings else []
        return f"{self.path.name}: " + "; ".join(parts)

    def _alpha_text(self) -> str:
        alphas = [layer.alpha for layer in self.layers if layer.rank]
        known = [alpha for alpha in alphas if alpha is not None]
        rslora = " over the root of the rank (rslora)" if self.strength.rslora else ""
        return f"alpha {_span(known)}{rslora}" if len(known) == len(alphas) else "alpha not stated, so the rank"

    def _grouped(self) -> dict[str, dict[int | None, Leaves]]:
        """Official module -> part -> leaf -> key."""
        grouped: dict[str, dict[int | None, Leaves]] = {}
        for key in self._file.infos:
            if TEXT_ENCODER.match(key):
                self.left_out.append(key)
                continue
            target = lora_target(key)
            if (other := other_form(key)) is not None and target is None:
                raise UserError(f"{self.path}: {key!r} is part of {other}, which cannot be loaded")
            if target is None:
                raise UserError(
                    f"{self.path}: {key!r} is no low-rank weight of a HunyuanVideo transformer in the names of "
                    "diffusers, PEFT, ComfyUI or kohya"
                )
            leaves = grouped.setdefault(target.module, {}).setdefault(target.part, {})
            if target.leaf in leaves:
                raise UserError(
                    f"{self.path}: {leaves[target.leaf]!r} and {key!r} are two changes of one weight; keep one of them"
                )
            leaves[target.leaf] = key
            self._targets[key] = target
        self._check_kind()
        return grouped

    def _check_kind(self) -> None:
        if self.left_out and not self._targets:
            raise UserError(
                f"{self.path}: {self.left_out[0]!r} and all others change a text encoder; only adapters of the "
                "transformer can be loaded"
            )
        if not self._targets:
            raise UserError(f"{self.path}: holds no low-rank weights; copy or download the file again")
        if all(target.leaf in WEIGHT_BIAS for target in self._targets.values()):
            raise UserError(f"{self.path}: holds whole weights, not an adapter; give it as --model, not as --adapter")
        if self.left_out:
            self.notices.append(
                f"{self.path}: {len(self.left_out)} entries of a text encoder ({self.left_out[0]}) are left out; only "
                "the transformer's part is used"
            )

    def _layer(self, module: str, part: int | None, leaves: Leaves) -> Layer:
        name = self._targets[next(iter(leaves.values()))].name
        shapes = {leaf: self._file.infos[key].shape for leaf, key in leaves.items()}
        rank = next(
            (shapes[leaf][0] for leaf in ("A", "hada_w1_b", "lokr_w1_b", "lokr_w2_b") if shapes.get(leaf)), None
        )
        if "alpha" in leaves:
            if self._file.infos[leaves["alpha"]].count != 1:
                raise UserError(f"{self.path}: {leaves['alpha']!r} holds {list(shapes['alpha'])} values, alpha is one")
            alpha: float | None = float(self.tensor(leaves["alpha"]).item())
            scale = alpha / rank if rank and alpha is not None else 1.0
        else:
            alpha, scale = self.strength.alpha_of(name), self.strength.scale(name, rank)
        return Layer(module, part, name, leaves, scale, alpha, rank)

    def _check_stated(self) -> None:
        """Refuse what the header says and the entries do not: a DoRA without magnitudes, another rank."""
        strength = self.strength
        if strength.dora and not any("magnitude" in layer.leaves for layer in self.layers):
            raise UserError(f"{strength.where} says use_dora, but the file has no magnitudes; save the adapter again")
        for layer in self.layers:
            stated = strength.rank_of(layer.name)
            if "A" in layer.leaves and "alpha" not in layer.leaves and stated not in (None, layer.rank):
                self.notices.append(
                    f"{strength.where} says rank {stated}, {layer.name} has {layer.rank}; alpha is divided by "
                    f"{layer.rank}"
                )
                return


def adapter_summary(path: str | Path) -> str:
    """One line about an adapter file: its form, whose names, layers, rank, strength. UserError where it is none."""
    return AdapterFile(path).summary()


def _span(values: list[float] | list[int]) -> str:
    """'4', or '4 to 16'."""
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
