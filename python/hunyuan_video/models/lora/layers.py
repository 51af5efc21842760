"""Adapters on chosen linears: W x + weight * alpha / rank * B (A x) for LoRA, other forms in `forms`.

An adapter lives beside a frozen base layer, so training it needs no second copy of the model, and several may be
active at once. Merging adds the changes to the base weight; unmerging puts the kept original back, exactly. What an
adapter changes beside linears' weights is in `patches`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from hunyuan_video.models.int8 import QuantizedLinear
from hunyuan_video.models.lora.forms import Adapter, Form
from hunyuan_video.models.lora.patches import activate_patches, patches


class LoRALinear(nn.Module):
    """A frozen linear and its adapters by name. weights: of the active ones; an adapter that is not there is off."""

    original: Tensor | None

    def __init__(self, base_layer: nn.Linear | QuantizedLinear):
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        self.adapters = nn.ModuleDict()
        self.weights: dict[str, float] = {}
        self.register_buffer("original", None, persistent=False)  # the base weight while merged
        # Of a base that is not in memory: its adapters are merged when it comes, and (plain) nothing is left around it.
        self.fused = self.plain = False

    def form(self, name: str) -> Form:
        """The adapter of a name that is in `adapters`, in whatever form it has."""
        form = self.adapters[name]
        assert isinstance(form, Form)
        return form

    def adapter(self, name: str) -> Adapter:
        """The low-rank pair of a name that is in `adapters`."""
        pair = self.adapters[name]
        assert isinstance(pair, Adapter)
        return pair

    def dense_weight(self) -> Tensor:
        """The base weight without adapters: [N, K] float32, decoded where it is FP8."""
        if self.original is not None:
            return self.original.float()
        weight = self.base_layer.weight.detach().float()
        return weight * self.base_layer.scale if isinstance(self.base_layer, QuantizedLinear) else weight

    def forward(self, x: Tensor) -> Tensor:  # [..., K] -> [..., N]
        out = self.base_layer(x)
        if self.original is None:
            for name, weight in self.weights.items():
                out = self.form(name).add_to(out, x, weight, self.dense_weight)
        return out

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the active adapters to the base weight: one rounding, from float32, to the weight's dtype.

        An FP8 weight is left as it is, and its adapters stay beside it: merged, they would be rounded to three bits.
        """
        self.unmerge()
        if self.base_layer.weight.is_meta:
            self.fused = bool(self.weights) and isinstance(self.base_layer, nn.Linear)
        elif self.weights and isinstance(self.base_layer, nn.Linear):
            weight = self.base_layer.weight
            self.original = weight.detach().clone()
            base = total = weight.detach().float()
            with torch.autocast(weight.device.type, enabled=False):  # of the program around: the products are float32
                for name, scale in self.weights.items():
                    total = total + scale * self.form(name).delta(base)
            weight.copy_(total)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Puts the base weight back as it was before `merge`, bit for bit."""
        self.fused = self.plain = False
        if self.original is not None:
            self.base_layer.weight.copy_(self.original)
            self.original = None

    @property
    def merged(self) -> bool:
        """True if the active adapters are in the base weight, or will be when it comes."""
        return self.original is not None or self.fused

    def arrived(self) -> nn.Module:
        """A copy of this layer whose base weight has come: with its adapters merged where they are to be."""
        if not self.fused:
            return self
        plain = self.plain
        self.merge()
        return self.base_layer if plain else self


def lora_layer(model: nn.Module, path: str) -> LoRALinear:
    """The layer with adapters at a path."""
    layer = model.get_submodule(path)
    assert isinstance(layer, LoRALinear), path
    return layer


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """(path, layer) of every linear that has adapters."""
    for path, module in model.named_modules():
        if isinstance(module, LoRALinear):
            yield path, module


def add_adapter(
    model: nn.Module,
    name: str,
    ranks: Mapping[str, int],  # path of a linear -> rank
    alphas: Mapping[str, float] | None = None,  # path -> alpha, default the rank
    weight: float = 1.0,
) -> None:
    """Puts a new, still neutral adapter on the linears of `ranks` and activates it; merged layers are unmerged, since
    they would ignore it. Base weights are frozen.

    Raises ValueError on a name that is taken or a path that is no linear.
    """
    for path, rank in ranks.items():
        base = _linear(model, path)
        alpha = None if alphas is None else alphas.get(path)
        adapter = Adapter(base.in_features, base.out_features, rank, alpha, device=_home(model, base))
        add_form(model, name, path, adapter, weight)


def add_form(model: nn.Module, name: str, path: str, form: Form, weight: float = 1.0) -> None:
    """Puts an adapter of any form on the linear at a path, as `add_adapter` does with a new one."""
    base = _linear(model, path)
    if form.shape != (base.out_features, base.in_features):
        raise ValueError(f"{path} is [{base.out_features}, {base.in_features}], the adapter's change {form.shape}")
    layer = model.get_submodule(path)
    if not isinstance(layer, LoRALinear):
        parent, _, leaf = path.rpartition(".")
        layer = LoRALinear(base)
        setattr(model.get_submodule(parent), leaf, layer)
    if name in layer.adapters:
        raise ValueError(f"{path} has an adapter {name!r} already; remove it or choose another name")
    layer.unmerge()
    layer.adapters[name] = form.to(_home(model, base))
    layer.weights[name] = weight


def _home(model: nn.Module, base: nn.Linear | QuantizedLinear) -> torch.device:
    """Device for an adapter: its base's; of a base that is streamed, that of the model's other parts."""
    device = base.weight.device
    if device.type != "meta":
        return device
    return next((weight.device for weight in model.parameters() if not weight.is_meta), device)


def _linear(model: nn.Module, path: str) -> nn.Linear | QuantizedLinear:
    """The linear at a path, under its adapters if it has some; ValueError for another module."""
    layer = model.get_submodule(path)
    linear = layer.base_layer if isinstance(layer, LoRALinear) else layer
    if not isinstance(linear, nn.Linear | QuantizedLinear):
        raise ValueError(f"{path} is no linear layer but {type(layer).__name__}")
    return linear


def adapter_names(model: nn.Module) -> list[str]:
    """Names of the adapters on a model, active or not."""
    names = {name for _, layer in lora_layers(model) for name in layer.adapters}
    return sorted(names.union(*(patch.names for patch in patches(model))))


def active_adapters(model: nn.Module) -> dict[str, float]:
    """The active adapters of a model and their weights."""
    tables = [layer.weights for _, layer in lora_layers(model)] + [patch.weights for patch in patches(model)]
    return {name: weight for table in tables for name, weight in table.items()}


def set_adapters(model: nn.Module, weights: Mapping[str, float]) -> None:
    """Activates the named adapters with their weights and switches all others off; merged layers are unmerged.

    Raises ValueError on a name that no layer has.
    """
    known = adapter_names(model)
    if unknown := sorted(set(weights) - set(known)):
        raise ValueError(f"no adapter {unknown[0]!r}; there are {known}")
    for _, layer in lora_layers(model):
        layer.unmerge()
        layer.weights = {name: weight for name, weight in weights.items() if name in layer.adapters}
    activate_patches(model, weights)
