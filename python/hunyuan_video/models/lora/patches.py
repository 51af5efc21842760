"""Changes of single parameters that come with an adapter: biases, norms, convolutions.

There is no cheap second branch for these, so a change is in the parameter while its adapter is active, and the value
without it is kept beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

from hunyuan_video.errors import UserError

_HOME = "adapter_patches"  # attribute of the model


class Patch(nn.Module):
    """One parameter's changes by adapter name. weights: of the active ones; original: the value without them."""

    original: Tensor | None

    def __init__(self, path: str):
        super().__init__()
        self.path, self.weights = path, dict[str, float]()
        self.register_buffer("original", None, persistent=False)

    @property
    def names(self) -> list[str]:
        """Adapters that change the parameter."""
        return [name.removeprefix("change_") for name in self._buffers if name.startswith("change_")]

    def change(self, name: str) -> Tensor:
        """The change of an adapter that is in `names`."""
        return self.get_buffer(f"change_{name}")

    def add(self, name: str, change: Tensor, weight: float) -> None:
        self.register_buffer(f"change_{name}", change, persistent=False)
        self.weights[name] = weight

    @torch.no_grad()
    def apply_to(self, model: nn.Module) -> None:
        """Puts original + sum of weight * change into the parameter: one rounding, from float32."""
        self.restore(model)
        if self.weights:
            parameter = patched_parameter(model, self.path)
            if parameter.is_meta:
                raise UserError(f"an adapter changes {self.path}, which is streamed; load with memory='resident'")
            self.original = parameter.detach().clone()
            total = parameter.float()
            for name, weight in self.weights.items():
                total = total + weight * self.change(name).to(parameter.device, torch.float32)
            parameter.copy_(total)

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Puts the parameter back as it was, bit for bit."""
        if self.original is not None:
            patched_parameter(model, self.path).copy_(self.original)
            self.original = None


def patches(model: nn.Module) -> Iterator[Patch]:
    """The patches of a model's parameters."""
    home = getattr(model, _HOME, None)
    for patch in home if home is not None else ():
        assert isinstance(patch, Patch)
        yield patch


def patched_parameter(model: nn.Module, path: str) -> nn.Parameter:
    """The parameter at a path of the plain model; adapters put a linear one level deeper."""
    module, _, leaf = path.rpartition(".")
    owner = model.get_submodule(module)
    parameter = getattr(getattr(owner, "base_layer", owner), leaf)
    assert isinstance(parameter, nn.Parameter), path
    return parameter


def patched_value(model: nn.Module, path: str) -> Tensor:
    """A parameter without what adapters have added, float32."""
    original = next((patch.original for patch in patches(model) if patch.path == path), None)
    return (patched_parameter(model, path) if original is None else original).detach().float()


def add_patch(model: nn.Module, name: str, path: str, change: Tensor, weight: float) -> None:
    """Adds the change of an adapter to the parameter at a path, of which it has the shape."""
    if getattr(model, _HOME, None) is None:
        model.add_module(_HOME, nn.ModuleList())
    patch = next((patch for patch in patches(model) if patch.path == path), None)
    if patch is None:
        patch = Patch(path)
        model.get_submodule(_HOME).append(patch)  # type: ignore[operator]
    patch.add(name, change, weight)
    patch.apply_to(model)


def activate_patches(model: nn.Module, weights: Mapping[str, float]) -> None:
    """Leaves the named adapters' changes in the parameters, with their weights, and takes all others out."""
    for patch in patches(model):
        patch.weights = {name: weight for name, weight in weights.items() if name in patch.names}
        patch.apply_to(model)


def delete_patches(model: nn.Module, names: Collection[str]) -> None:
    """Forgets the changes of these adapters; parameters that no other one changes are the original ones again."""
    left = nn.ModuleList()
    for patch in patches(model):
        patch.weights = {name: weight for name, weight in patch.weights.items() if name not in names}
        patch.apply_to(model)
        for name in [name for name in patch.names if name in names]:
            delattr(patch, f"change_{name}")
        if patch.names:
            left.append(patch)
    if len(left):
        setattr(model, _HOME, left)
    elif getattr(model, _HOME, None) is not None:
        delattr(model, _HOME)


def remove_patches(model: nn.Module, *, keep: bool = False) -> None:
    """Forgets all patches; the parameters are the original ones again, or with `keep` stay as they are."""
    if not keep:
        for patch in patches(model):
            patch.restore(model)
    if getattr(model, _HOME, None) is not None:
        delattr(model, _HOME)
