"""Memory of the backward pass: blocks are computed again instead of kept, or kept in host memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.distributed.fsdp import blocks_of
from hunyuan_video.errors import UserError
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.transformer.executor import Recompute, Run

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
    blocks = [block for _, block in blocks_of(network)]
    again = blocks[:: parallel.recompute_every] if parallel.recompute != "none" else []
    if not again and not parallel.offload_activations:
        return
    layer = SavedActivations(again, parallel)
    if isinstance(network, HunyuanVideoTransformer):
        network.executor = network.executor.adding(layer)
        return
    for block in blocks:  # other networks have no executor
        block.forward = partial(layer.inside(partial(_forward, block.forward)), block)


def _forward(forward: Callable, block: nn.Module, *args: Any) -> Any:
    return forward(*args)


class SavedActivations(Recompute):
    """Computes some blocks again, and keeps what all of them save in host memory where that is asked for."""

    def __init__(self, blocks: list[nn.Module], parallel: ParallelConfig):
        # The reentrant kind keeps a block's inputs as saved tensors, which can be offloaded; the other in a closure.
        settings: dict[str, Any] = {"use_reentrant": parallel.offload_activations}
        if parallel.recompute == "selective":
            settings["context_fn"] = partial(create_selective_checkpoint_contexts, policy)
        super().__init__(blocks, **settings)
        self.offloads = parallel.offload_activations

    def inside(self, run: Run) -> Run:
        run = super().inside(run)
        return partial(offloaded, run) if self.offloads else run


def offloaded(run: Run, block: nn.Module, *args: Any) -> Any:
    """A block whose saved tensors wait in host memory. Weights stay: FSDP frees and gathers them."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in block.parameters()}
    with saved_tensors_hooks(partial(_pack, weights), _unpack):
        return run(block, *args)


def policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    name = str(op).split(".")[1] if "." in str(op) else str(op)
    kept = name in KEPT or "attention" in name
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


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
