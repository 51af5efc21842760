"""The configuration section that spreads a run over ranks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ParallelConfig:
    """Spread of a run over the ranks of torchrun, and what it gives up to fit (distributed/ranks.py)."""

    fsdp: bool = False  # shard weights, gradients, optimizer and average over all ranks; else every rank has them all
    sequence: int = 1  # ranks that share one sample's tokens (Ulysses); divides the number of ranks
    recompute: str = "none"  # in the backward pass: "none" | "blocks" (all) | "selective" (not products and attention)
    recompute_every: int = 1  # only in every k-th block
    offload_activations: bool = False  # what the backward pass needs waits in host memory
    offload_optimizer: bool = False  # weights, gradients and optimizer live in host memory; needs fsdp
