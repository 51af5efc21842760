"""AdamW and Muon over the parameters of one network, and their state by parameter name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hunyuan_video.errors import UserError
from hunyuan_video.training.config import OptimizerConfig
from hunyuan_video.training.muon import Muon


def make_optimizers(
    network: nn.Module, config: OptimizerConfig, cuda_graphs: bool = False
) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the matrices and convolutions inside blocks when muon_lr is set."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            inside = config.muon_lr > 0 and parameter.ndim >= 2 and "block" in name
            (matrices if inside else rest).append(parameter)
    adamw = torch.optim.AdamW(rest, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)
    if not matrices:
        return [adamw]
    return [adamw, Muon(matrices, config.muon_lr, weight_decay=config.weight_decay, cuda_graphs=cuda_graphs)]


def state_by_name(network: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Every tensor of the optimizers' state as "parameter name/key". Rates are not state: the schedule sets them."""
    return {
        f"{name}/{key}": value
        for name, parameter, optimizer in _owners(network, optimizers)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def empty_state(
    network: nn.Module,
    names: Mapping[str, Any],  # "parameter name/key" -> something with .size and .properties.dtype
) -> dict[str, Tensor]:
    """Tensors to load saved state into, sharded as the parameters are now."""
    parameters = dict(network.named_parameters())
    out = {}
    for name, saved in names.items():
        parameter = parameters.get(name.rpartition("/")[0])
        if parameter is not None and tuple(saved.size) == tuple(parameter.shape):
            out[name] = torch.zeros_like(parameter, dtype=saved.properties.dtype, requires_grad=False)
        else:
            out[name] = torch.zeros(tuple(saved.size), dtype=saved.properties.dtype, device="cpu")
    return out


def set_state(network: nn.Module, optimizers: list[torch.optim.Optimizer], state: dict[str, Tensor]) -> None:
    """The reverse of `state_by_name`, for freshly made optimizers. UserError for another optimizer's state."""
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        owner, _, key = name.rpartition("/")
        by_parameter.setdefault(owner, {})[key] = value
    for name, parameter, optimizer in _owners(network, optimizers):
        if name in by_parameter:
            if ("momentum" in by_parameter[name]) != isinstance(optimizer, Muon):
                before = "AdamW" if isinstance(optimizer, Muon) else "Muon"
                raise UserError(
                    f"{name} was trained by {before}: keep optimizer.muon_lr "
                    "zero or above zero as it was, or start anew from the export with init_from"
                )
            optimizer.state[parameter] = by_parameter[name]


def _owners(
    network: nn.Module, optimizers: list[torch.optim.Optimizer]
) -> Iterator[tuple[str, nn.Parameter, torch.optim.Optimizer]]:
    owner = {id(p): optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        if id(parameter) in owner:
            yield name, parameter, owner[id(parameter)]
