"""Low-rank adapters (LoRA, arXiv 2106.09685): W x + weight * alpha / rank * B (A x) on chosen linears.

An adapter lives beside a frozen base layer, so training it needs no second copy of the model, and several may be
active at once. Merging adds the products to the base weight; unmerging puts the kept original back, exactly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hunyuan_video.models.fp8 import FP8Linear

# Attention, MLP and modulation projections of the video and of the joint stream: what follows the timestep.
TARGETS = (
    r"double_blocks\.\d+\.img_(mod\.linear|attn_qkv|attn_proj|mlp\.fc[12])",
    r"single_blocks\.\d+\.(modulation\.linear|linear[12])",
    r"final_layer\.(adaLN_modulation\.1|linear)",
)


class Adapter(nn.Module):
    """The pair A [rank, K], B [N, rank]; B starts at zero, so a new adapter changes nothing."""

    def __init__(self, in_features: int, out_features: int, rank: int, alpha: float | None = None):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        self.rank, self.alpha = rank, float(rank if alpha is None else alpha)
        self.lora_A = nn.Parameter(torch.empty(rank, in_features))
        self.lora_B = nn.Parameter(torch.zeros(out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def add_to(self, out: Tensor, x: Tensor, weight: float) -> Tensor:  # [..., N], [..., K] -> [..., N]
        """out + weight * alpha / rank * B (A x); the sum is part of the second product, not a pass of its own."""
        down = F.linear(x, self.lora_A.to(x.dtype)).flatten(0, -2)
        up = self.lora_B.to(down.dtype).t()
        scale = weight * self.alpha / self.rank
        return torch.addmm(out.flatten(0, -2), down, up, alpha=scale).view(out.shape)

    def delta(self) -> Tensor:
        """alpha / rank * B A: [N, K] float32."""
        return (self.lora_B.float() @ self.lora_A.float()) * (self.alpha / self.rank)


class LoRALinear(nn.Module):
    """A frozen linear and its adapters by name. weights: of the active ones; an adapter that is not there is off."""

    original: Tensor | None

    def __init__(self, base_layer: nn.Linear | FP8Linear):
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        self.adapters = nn.ModuleDict()
        self.weights: dict[str, float] = {}
        self.register_buffer("original", None, persistent=False)  # the base weight while merged

    def adapter(self, name: str) -> Adapter:
        """The adapter of a name that is in `adapters`."""
        found = self.adapters[name]
        assert isinstance(found, Adapter)
        return found

    def forward(self, x: Tensor) -> Tensor:  # [..., K] -> [..., N]
        out = self.base_layer(x)
        if self.original is None:
            for name, weight in self.weights.items():
                out = self.adapter(name).add_to(out, x, weight)
        return out

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the active adapters to the base weight: one rounding, from float32, to the weight's dtype.

        An FP8 weight is left as it is, and its adapters stay beside it: merged, they would be rounded to three bits.
        """
        self.unmerge()
        if self.weights and isinstance(self.base_layer, nn.Linear):
            weight = self.base_layer.weight
            self.original = weight.detach().clone()
            total = weight.float()
            for name, scale in self.weights.items():
                total = total + scale * self.adapter(name).delta()
            weight.copy_(total)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Puts the base weight back as it was before `merge`, bit for bit."""
        if self.original is not None:
            self.base_layer.weight.copy_(self.original)
            self.original = None


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


def target_linears(model: nn.Module, targets: Iterable[str] = TARGETS) -> list[str]:
    """Paths of the linears whose whole path matches one of the regular expressions.

    Raises ValueError on none, and on what is no expression.
    """
    try:
        patterns = [re.compile(target) for target in targets]
    except re.error as error:
        raise ValueError(f"target {error.pattern!r} is no regular expression: {error}") from None
    paths = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | FP8Linear | LoRALinear)
        and any(pattern.fullmatch(path) for pattern in patterns)
    ]
    if not paths:
        raise ValueError(f"no linear of the model matches the targets {[p.pattern for p in patterns]}")
    return paths


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
        layer = model.get_submodule(path)
        if not isinstance(layer, LoRALinear):
            if not isinstance(layer, nn.Linear | FP8Linear):
                raise ValueError(f"{path} is no linear layer but {type(layer).__name__}")
            parent, _, leaf = path.rpartition(".")
            layer = LoRALinear(layer)
            setattr(model.get_submodule(parent), leaf, layer)
        if name in layer.adapters:
            raise ValueError(f"{path} has an adapter {name!r} already; remove it or choose another name")
        base = layer.base_layer
        alpha = None if alphas is None else alphas.get(path)
        adapter = Adapter(base.in_features, base.out_features, rank, alpha)
        layer.unmerge()
        layer.adapters[name] = adapter.to(base.weight.device)
        layer.weights[name] = weight


def set_adapters(model: nn.Module, weights: Mapping[str, float]) -> None:
    """Activates the named adapters with their weights and switches all others off; merged layers are unmerged.

    Raises ValueError on a name that no layer has.
    """
    known = {name for _, layer in lora_layers(model) for name in layer.adapters}
    if unknown := sorted(set(weights) - known):
        raise ValueError(f"no adapter {unknown[0]!r}; there are {sorted(known)}")
    for _, layer in lora_layers(model):
        layer.unmerge()
        layer.weights = {name: weight for name, weight in weights.items() if name in layer.adapters}


def merge_adapters(model: nn.Module) -> None:
    """Adds every active adapter to its base weight, so that it costs nothing in a forward; undone exactly."""
    for _, layer in lora_layers(model):
        layer.merge()


def unmerge_adapters(model: nn.Module) -> None:
    """Every base weight as it was before `merge_adapters`, bit for bit."""
    for _, layer in lora_layers(model):
        layer.unmerge()


def remove_adapters(model: nn.Module, *, keep_merged: bool = False) -> nn.Module:
    """Plain linears again, with their original weights, or with `keep_merged` with what is merged into them.

    With `keep_merged` the adapters beside FP8 weights stay: nothing can be merged into those.
    """
    for path, layer in list(lora_layers(model)):
        if keep_merged and isinstance(layer.base_layer, FP8Linear):
            continue
        if not keep_merged:
            layer.unmerge()
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer.base_layer)
    return model
