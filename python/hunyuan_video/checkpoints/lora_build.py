"""From the layers of an adapter file to forms and patches for one model; what does not fit it is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from hunyuan_video.checkpoints.keys import diffusers_modules, halves_swapped
from hunyuan_video.checkpoints.lora_file import AdapterFile, Layer
from hunyuan_video.errors import UserError
from hunyuan_video.models.int8 import QuantizedLinear
from hunyuan_video.models.lora import LoRALinear
from hunyuan_video.models.lora.forms import Adapter, Difference, DoRA, Form, LoHa, LoKr, Rows, halves_exchanged
from hunyuan_video.models.lora.patches import patched_value

_KINDS = {
    "lora": (("A", "B"),),
    "hada": (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),),
    "lokr": tuple(
        (*first, *second)
        for first in (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
        for second in (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"))
    ),
    "diff": (("diff",),),
    "set": (("set",),),
}
_PIECES = {leaf: kind for kind, sets in _KINDS.items() for leaves in sets for leaf in leaves}


@dataclass
class Changes:
    """Changes that an adapter makes to a model: forms on linears, differences of other parameters, each by path."""

    forms: dict[str, Form] = field(default_factory=dict)
    patches: dict[str, Tensor] = field(default_factory=dict)


def adapter_changes(model: nn.Module, file: AdapterFile) -> Changes:
    """Forms and patches of every layer of a file. UserError, one line naming file and module, on what does not fit."""
    modules: dict[str, dict[int | None, Layer]] = {}
    for layer in file.layers:
        modules.setdefault(layer.module, {})[layer.part] = layer
    changes = Changes()
    for path, parts in modules.items():
        _Module(model, file, path).add(parts, changes)
    return changes


class _Module:
    """One module of a model, and the layers of a file that change it."""

    def __init__(self, model: nn.Module, file: AdapterFile, path: str):
        self.model, self.file, self.path = model, file, path
        try:
            owner = model.get_submodule(path)
        except AttributeError:
            raise UserError(
                f"{file.path}: the model has no {path}: this adapter is for a larger one, or for another kind"
            ) from None
        self.wrapper = owner if isinstance(owner, LoRALinear) else None
        self.base = owner.base_layer if isinstance(owner, LoRALinear) else owner
        self.linear = isinstance(self.base, nn.Linear | QuantizedLinear)
        weight = self.base.get_parameter("weight") if not isinstance(self.base, QuantizedLinear) else self.base.weight
        self.weight_shape = tuple(weight.shape)
        self.rows, self.columns = self.weight_shape[0], weight.numel() // self.weight_shape[0]

    def add(self, parts: Mapping[int | None, Layer], changes: Changes) -> None:
        names = diffusers_modules(self.path)
        swapped = halves_swapped(self.path)
        if len(names) == 1 and not swapped and 0 in parts:  # a part that is the whole
            if None in parts:
                self._twice(parts[0], parts[None])
            parts = {None: parts[0]}
        if None in parts and len(parts) > 1:
            self._twice(*list(parts.values())[:2])
        whole = None in parts
        edges = [(0, self.rows)] if whole else self._edges(len(names))
        placed = [(edges[layer.part or 0], layer) for layer in parts.values()]
        forms = [(rows, form) for rows, layer in placed if (form := self._form(layer, rows, whole)) is not None]
        if forms and self.linear:
            changes.forms[self.path] = self._joined(forms, len(edges), swapped and not whole)
        elif forms:
            change = forms[0][1].delta(self._base_matrix()).reshape(self.weight_shape)
            changes.patches[f"{self.path}.weight"] = change
        self._add_bias(placed, swapped and not whole, changes)

    def _edges(self, parts: int) -> list[tuple[int, int]]:
        """Rows of each diffusers part: q, k and v are as many as the module has columns, the rest is the MLP's."""
        return list(pairwise([self.columns * i for i in range(parts)] + [self.rows]))

    def _joined(self, forms: list[tuple[tuple[int, int], Form]], count: int, swapped: bool) -> Form:
        pairs = [(rows, form) for rows, form in forms if isinstance(form, Adapter)]
        if len(pairs) == len(forms):
            return _fused(pairs, self.rows, count, swapped)
        if len(forms) == 1 and forms[0][1].shape[0] == self.rows and not swapped:
            return forms[0][1]
        return Rows((self.rows, self.columns), [(rows[0], form) for rows, form in forms], swapped)

    def _base_matrix(self) -> Tensor:  # -> [N, K] float32
        if self.wrapper is not None:
            return self.wrapper.dense_weight()
        if isinstance(self.base, QuantizedLinear):
            return self.base.weight.float() * self.base.scale
        return patched_value(self.model, f"{self.path}.weight").reshape(self.rows, self.columns)

    def _form(self, layer: Layer, rows: tuple[int, int], whole: bool) -> Form | None:
        """The change of the weight's rows; None where only the bias changes."""
        kinds = dict.fromkeys(_PIECES[leaf] for leaf in layer.leaves if leaf in _PIECES)
        if len(kinds) > 1:
            raise UserError(
                f"{self.file.path}: {layer.name} has two changes of one weight ({layer.form}); keep one of them"
            )
        if not kinds:
            if "magnitude" in layer.leaves:
                raise UserError(
                    f"{self.file.path}: {layer.name} has a magnitude (DoRA) without its low-rank pair; copy or "
                    "download the file again"
                )
            return None
        leaves = {leaf: self.file.tensor(key) for leaf, key in layer.leaves.items() if leaf in (*_PIECES, "magnitude")}
        form = self._weight_form(next(iter(kinds)), leaves, layer, rows)
        if form.shape != (rows[1] - rows[0], self.columns):
            self._misfit(layer, f"a change of shape {list(form.shape)}", rows)
        if "magnitude" in leaves:
            form = DoRA(form, self._magnitude(leaves["magnitude"], form, layer, whole))
        return form

    def _weight_form(self, kind: str, leaves: dict[str, Tensor], layer: Layer, rows: tuple[int, int]) -> Form:
        present = {leaf for leaf in leaves if leaf in _PIECES}
        complete = next((needed for needed in _KINDS[kind] if set(needed) == present), None)
        if complete is None:
            self._incomplete(kind, layer)
        if kind == "diff":
            return Difference(self._matrix(leaves["diff"], layer, rows))
        if kind == "set":
            start = self._base_matrix()
            start = halves_exchanged(start) if layer.part is not None and halves_swapped(self.path) else start
            return Difference(self._matrix(leaves["set"], layer, rows) - start[rows[0] : rows[1]].cpu())
        matrices = {leaf: value.flatten(1) if value.ndim > 2 else value for leaf, value in leaves.items()}
        if any(value.ndim != 2 for leaf, value in matrices.items() if leaf != "magnitude"):
            self._misfit(layer, "tensors that are no matrices", rows)
        if kind == "lora":
            a, b = matrices["A"], matrices["B"]
            if a.shape[1] != self.columns or b.shape[0] != rows[1] - rows[0] or len(a) != b.shape[1]:
                self._misfit(layer, f"lora_A {list(a.shape)} and lora_B {list(b.shape)}", rows)
            return Adapter.of(a, b, layer.scale * len(a))
        if kind == "hada":
            b1, a1, b2, a2 = (matrices[leaf] for leaf in _KINDS["hada"][0])
            if b1.shape[1] != len(a1) or b2.shape[1] != len(a2) or len(b1) != len(b2) or a1.shape[1] != a2.shape[1]:
                self._misfit(layer, f"hada factors {[list(m.shape) for m in (b1, a1, b2, a2)]}", rows)
            return LoHa(b1, a1, b2, a2, layer.scale)
        factors = [[matrices[leaf] for leaf in complete or () if leaf.startswith(f"lokr_{w}")] for w in ("w1", "w2")]
        if any(len(factor) == 2 and factor[0].shape[1] != len(factor[1]) for factor in factors):
            self._misfit(layer, f"lokr factors {[list(m.shape) for factor in factors for m in factor]}", rows)
        return LoKr(factors[0], factors[1], layer.scale)

    def _matrix(self, value: Tensor, layer: Layer, rows: tuple[int, int]) -> Tensor:
        """A difference or a whole weight as [rows, columns]."""
        if value.numel() != (rows[1] - rows[0]) * self.columns or len(value) != rows[1] - rows[0]:
            self._misfit(layer, f"a weight {list(value.shape)}", rows)
        return value.reshape(-1, self.columns)

    def _magnitude(self, value: Tensor, form: Form, layer: Layer, whole: bool) -> Tensor:
        rows, columns = form.shape
        if value.ndim <= 1 and value.numel() == rows or value.ndim > 1 and value.numel() == len(value) == rows:
            return value.reshape(rows, 1)
        if value.ndim > 1 and value.numel() == value.shape[1] == columns and (whole or rows == self.rows):
            return value.reshape(1, columns)
        raise UserError(
            f"{self.file.path}: {layer.name} has a magnitude (DoRA) of shape {list(value.shape)}, the model takes "
            f"[{rows}, 1]" + (f" or [1, {columns}]" if whole else "") + ": this adapter is for another model"
        )

    def _add_bias(self, placed: list[tuple[tuple[int, int], Layer]], swapped: bool, changes: Changes) -> None:
        total: Tensor | None = None
        for (start, stop), layer in placed:
            for leaf in ("bias", "B_bias", "set_bias"):
                if leaf not in layer.leaves:
                    continue
                if getattr(self.base, "bias", None) is None:
                    raise UserError(f"{self.file.path}: changes the bias of {layer.name}, but the model has none there")
                value = self.file.tensor(layer.leaves[leaf]).flatten()
                if len(value) != stop - start:
                    raise UserError(
                        f"{self.file.path}: {layer.name} has a bias of {len(value)} values, the model takes "
                        f"{stop - start}: this adapter is for another model"
                    )
                if leaf == "B_bias":
                    value = value * layer.scale
                elif leaf == "set_bias":
                    base = patched_value(self.model, f"{self.path}.bias").cpu()
                    value = value - (halves_exchanged(base) if swapped else base)[start:stop]
                total = torch.zeros(self.rows, dtype=torch.float32, device="cpu") if total is None else total
                total[start:stop] += value
        if total is not None:
            changes.patches[f"{self.path}.bias"] = halves_exchanged(total) if swapped else total

    def _incomplete(self, kind: str, layer: Layer) -> None:
        what = {"lora": "only one of lora_A and lora_B"}.get(kind, f"only some of the factors of a {layer.form}")
        raise UserError(f"{self.file.path}: {layer.name} has {what}; copy or download the file again")

    def _misfit(self, layer: Layer, what: str, rows: tuple[int, int]) -> None:
        shape = f"[rank, {self.columns}] and [{rows[1] - rows[0]}, rank]" if "A" in layer.leaves else ""
        raise UserError(
            f"{self.file.path}: {layer.name} has {what}, the model takes "
            f"{shape or [rows[1] - rows[0], self.columns]}: this adapter is for another model"
        )

    def _twice(self, first: Layer, second: Layer) -> None:
        raise UserError(
            f"{self.file.path}: changes {self.path} twice, as {first.name} and as {second.name}; keep one of them"
        )


def _fused(pairs: list[tuple[tuple[int, int], Adapter]], rows: int, count: int, swapped: bool) -> Adapter:
    """One pair for a module from those of its parts: one A where all have the same, else a block diagonal."""
    scales = [pair.alpha / pair.rank for _, pair in pairs]
    scale = scales[0] if len(set(scales)) == 1 else 1.0
    downs = [pair.lora_A.detach() for _, pair in pairs]
    shared = len(pairs) == count and all(torch.equal(down, downs[0]) for down in downs)
    rank = len(downs[0]) if shared else sum(len(down) for down in downs)
    b, column = torch.zeros(rows, rank, dtype=torch.float32, device="cpu"), 0
    for (start, stop), pair in pairs:
        b[start:stop, column : column + pair.rank] = pair.lora_B.detach() * (
            pair.alpha / pair.rank / scale if scale else 1
        )
        column += 0 if shared else pair.rank
    a = downs[0] if shared else torch.cat(downs)
    return Adapter.of(a, halves_exchanged(b) if swapped else b, scale * rank)
