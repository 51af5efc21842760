"""The ranks of a run: who works on which part of the batch, equal weights, gradients of all.

The models know nothing of process groups. With R ranks and `sequence` = P, ranks 0..P-1 share the tokens of one
micro-batch, P..2P-1 of the next, and so on: R / P data ranks. Gradients are averaged over all R ranks. (That is right
with P > 1 too: every rank of a group computes the loss of the whole micro-batch from all gathered tokens, and each
collective's backward pass is its exact transpose.)
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """This process among all."""

    rank: int = 0
    count: int = 1
    sequence: int = 1  # ranks that share a sample's tokens
    group: Any = None  # process group of those ranks

    @property
    def data_rank(self) -> int:
        return self.rank // self.sequence

    @property
    def data_count(self) -> int:
        return self.count // self.sequence

    @property
    def first(self) -> bool:
        """True on the rank that writes and reports."""
        return self.rank == 0

    def mean(self, values: list[float]) -> list[float]:
        """Averages numbers over all ranks."""
        if self.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device="cpu")
        dist.all_reduce(total)
        return (total / self.count).tolist()

    def agree(self, value: Any) -> Any:
        """The first rank's value, on every rank."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def collect(self, values: list[Any]) -> list[Any]:
        """The values of all ranks, one after the other, on every rank."""
        if self.count == 1:
            return values
        boxes: list[list[Any]] = [[] for _ in range(self.count)]
        dist.all_gather_object(boxes, values)
        return [value for box in boxes for value in box]

    def meet(self) -> None:
        """Waits for all ranks. None is gone while another still reads what it sent, as after a broadcast."""
        self.mean([0.0])


def join_ranks(device: str, parallel: ParallelConfig) -> Ranks:
    """Joins the group of `torchrun`; a single process needs one only to shard (offload_optimizer on one GPU)."""
    if device not in ("cpu", "cuda"):
        raise UserError(f"loop.device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("loop.device is cuda, but torch sees no CUDA device; set loop.device to cpu")
    if device == "cuda":
        number, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if number >= there:
            raise UserError(f"rank {number} of this machine has no GPU, {there} are there; --nproc-per-node {there}")
        torch.cuda.set_device(number)
    if parallel.offload_optimizer and not parallel.fsdp:
        raise UserError("loop.parallel.offload_optimizer needs loop.parallel.fsdp: true (which works on one rank too)")
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    if not dist.is_initialized():
        if dist.is_torchelastic_launched():
            _join_torchrun(backend)
        elif parallel.fsdp:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    rank, count = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if parallel.sequence < 1 or count % parallel.sequence:
        raise UserError(
            f"loop.parallel.sequence = {parallel.sequence} must divide the number of ranks, {count}; start more with "
            "torchrun --nproc-per-node N -m hunyuan_video train ..."
        )
    return Ranks(rank, count, parallel.sequence, sequence_group(rank, count, parallel.sequence))


def _join_torchrun(backend: str) -> None:
    """torchrun's own store outlives a restart, with the addresses of the ranks that are gone: each attempt gets names
    of its own in it."""
    atexit.register(_leave)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        dist.init_process_group(backend)
        return
    kept = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", kept)
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group(backend, store=store, rank=rank, world_size=count)


def _leave() -> None:
    """End the group's threads before the interpreter ends: else a rank that has finished may abort in its last moment,
    and torchrun takes the run for a failed one.
    """
    if dist.is_initialized():
        dist.destroy_process_group()


def sequence_group(rank: int, count: int, size: int) -> Any:
    """The group of consecutive ranks that this one is in; None where it is alone. All ranks must call it."""
    if size == 1:
        return None
    groups = [dist.new_group(list(range(first, first + size))) for first in range(0, count, size)]
    return groups[rank // size]


@torch.no_grad()
def same_weights(network: nn.Module) -> None:
    """Every rank gets the first rank's weights."""
    for tensor in (*network.parameters(), *network.buffers()):
        dist.broadcast(tensor, src=0)


@torch.no_grad()
def average_gradients(network: nn.Module, count: int) -> None:
    """Mean over the ranks, sent as one flat tensor: small models are bound by the number of messages."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= count
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
