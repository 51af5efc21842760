"""A network made ready for training: on its device, sharded, with its optimizers."""

from __future__ import annotations

import copy
import dataclasses
import math

import torch
from torch import Tensor, nn

from hunyuan_video.distributed import activation_checkpoint, ulysses
from hunyuan_video.distributed.fsdp import blocks_of, shard, whole
from hunyuan_video.distributed.ranks import Ranks, average_gradients, same_weights
from hunyuan_video.errors import UserError
from hunyuan_video.training.config import LoopConfig, OptimizerConfig
from hunyuan_video.training.lr_schedule import LearningRate
from hunyuan_video.training.optimizer import empty_state, make_optimizers, set_state, state_by_name
from hunyuan_video.training.pace import Pace


def deal(loop: LoopConfig, ranks: Ranks) -> LoopConfig:
    """The loop with its number of micro-batches settled. Raises UserError where they cannot be dealt out evenly."""
    parts = loop.micro_batches or ranks.data_count
    if parts % ranks.data_count:
        raise UserError(f"loop.micro_batches = {parts} must be a multiple of the {ranks.data_count} data ranks")
    if loop.batch % parts:
        raise UserError(f"loop.batch = {loop.batch} must be a multiple of the {parts} micro-batches")
    return dataclasses.replace(loop, micro_batches=parts)


class Prepared:
    """Network, optimizers and rates; changed by `update`, saved and loaded by name.

    Everything that FSDP needs of the order of calls is here: shard first, then make optimizers, then load.
    """

    def __init__(
        self, network: nn.Module, loop: LoopConfig, config: OptimizerConfig, ranks: Ranks, pace: Pace | None = None
    ):
        self.network, self.config, self.ranks = network, config, ranks
        self.sharded = loop.parallel.fsdp
        self.skeleton = _on_meta(network) if self.sharded and ranks.first else None
        network.to(loop.device)
        activation_checkpoint.install(network, loop.parallel)
        self.splits_tokens = ranks.group is not None and ulysses.install(network, ranks.group)
        if loop.compile:  # block by block: they share their compiled code
            for _, block in blocks_of(network):
                block.compile()
        if self.sharded:
            shard(network, loop.device, loop.precision, offload_optimizer=loop.parallel.offload_optimizer)
        elif ranks.count > 1:
            same_weights(network)
        self.optimizers = make_optimizers(network, config, loop.cuda_graphs)
        self.rates = LearningRate(self.optimizers, config, (pace or Pace(loop, ranks)).done)

    def update(self, step: int) -> float:
        """One optimizer step from the gradients that are there; returns their norm over all ranks, before clipping.

        Without effect where the norm is not finite. Gradients are gone afterwards.
        """
        if self.ranks.count > 1 and not self.sharded:
            average_gradients(self.network, self.ranks.count)
        norm = whole(nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)).item()
        if math.isfinite(norm):
            self.rates.set(step)
            for optimizer in self.optimizers:
                optimizer.step()
        self.drop_gradients()
        return norm

    def drop_gradients(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Weights, buffers and optimizer state, by name; sharded tensors stay sharded."""
        weights = {f"network/{name}": tensor.detach() for name, tensor in self.network.state_dict().items()}
        moments = state_by_name(self.network, self.optimizers)
        return {**weights, **{f"optimizer/{name}": tensor for name, tensor in moments.items()}}

    def places(self, saved: dict) -> dict[str, Tensor]:
        """Tensors to load a saved state into; `set` takes them back. saved: name -> metadata of the tensor."""
        weights = {f"network/{name}": tensor.detach() for name, tensor in self.network.state_dict().items()}
        names = {
            name.removeprefix("optimizer/"): metadata
            for name, metadata in saved.items()
            if name.startswith("optimizer/")
        }
        return {**weights, **{f"optimizer/{k}": v for k, v in empty_state(self.network, names).items()}}

    def set(self, state: dict[str, Tensor]) -> None:
        """After loading into `places`: the weights are already there, the optimizers take their state."""
        moments = {name.removeprefix("optimizer/"): t for name, t in state.items() if name.startswith("optimizer/")}
        set_state(self.network, self.optimizers, moments)

    @torch.no_grad()
    def gathered(self) -> nn.Module | None:
        """A plain copy of a sharded network on the first rank's CPU, None on the others. All ranks must call it."""
        state = {}
        for name, tensor in self.network.state_dict().items():
            full = whole(tensor)
            if self.skeleton is not None:
                state[name] = full.cpu()
        if self.skeleton is None:
            return None
        plain = copy.deepcopy(self.skeleton)
        plain.load_state_dict(state, assign=True)
        return plain


def _on_meta(network: nn.Module) -> nn.Module:
    """The structure of a network without its weights."""
    tensors = (*network.parameters(), *network.buffers())
    memo = {id(t): nn.Parameter(t.to("meta"), t.requires_grad) if isinstance(t, nn.Parameter) else t.to("meta")
            for t in tensors}  # fmt: skip
    return copy.deepcopy(network, memo)
