"""Memory of the backward pass: blocks are computed again instead of kept, or kept in host memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.distributed.fsdp import blocks_of
from hunyuan_video.errors import UserError

MODES = ("none", "blocks", "selective")
# What "selective" keeps: it costs most to compute again for its size. By name, because attention has one per device.
KEPT = ("mm", "addmm", "bmm", "convolution", "attention")
WORTH_MOVING = 1 << 20  # bytes; smaller tensors stay on the device


def install(network: nn.Module, parallel: ParallelConfig) -> None:
    """Wraps the forward passes of the network's blocks as configured. Raises UserError on what does not fit."""
    if parallel.recompute not in MODES:
        raise UserError(f"loop.parallel.recompute must be one of {', '.join(MODES)}, got {parallel.recompute!r}")
    if parallel.recompute_every < 1:
        raise UserError(f"loop.parallel.recompute_every must be at least 1, got {parallel.recompute_every}")
    if parallel.recompute == "selective" and parallel.offload_activations:
        raise UserError("loop.parallel.offload_activations goes with recompute: none or blocks, not with selective")
    for index, (_, block) in enumerate(blocks_of(network)):
        if parallel.recompute != "none" and index % parallel.recompute_every == 0:
            block.forward = recomputed(block.forward, parallel)
        if parallel.offload_activations:
            block.forward = Offloaded(block)


def recomputed(forward: Callable, parallel: ParallelConfig) -> Callable:
    """The forward pass of a block, run again when its gradients are due."""
    if parallel.recompute == "selective":
        context = partial(create_selective_checkpoint_contexts, policy)
        return partial(_recompute, forward, use_reentrant=False, context_fn=context)
    # The reentrant kind keeps a block's inputs as saved tensors, which can be offloaded; the other in a closure.
    return partial(_recompute, forward, use_reentrant=parallel.offload_activations)


def _recompute(forward: Callable, *args: Any, **settings: Any) -> Any:
    return checkpoint(forward, *args, **settings) if torch.is_grad_enabled() else forward(*args)


def policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    name = str(op).split(".")[1] if "." in str(op) else str(op)
    kept = name in KEPT or "attention" in name
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


class Offloaded:
    """A block's forward pass whose saved tensors wait in host memory. Weights stay: FSDP frees and gathers them."""

    def __init__(self, block: nn.Module):
        self.block, self.forward = block, block.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        weights = {parameter.untyped_storage().data_ptr() for parameter in self.block.parameters()}
        with saved_tensors_hooks(partial(_pack, weights), _unpack):
            return self.forward(*args, **kwargs)


def _pack(weights: set[int], tensor: Tensor) -> tuple[torch.device, Tensor]:
    if not _moves(tensor) or tensor.untyped_storage().data_ptr() in weights:
        return tensor.device, tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    host.copy_(tensor, non_blocking=True)
    return tensor.device, host


def _unpack(packed: tuple[torch.device, Tensor]) -> Tensor:
    return packed[1].to(packed[0], non_blocking=True)


def _moves(tensor: Tensor) -> bool:
    return tensor.device.type != "cpu" and tensor.nbytes >= WORTH_MOVING
