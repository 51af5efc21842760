"""Weights sharded over the ranks (FSDP2), and the parts and wholes of sharded tensors."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, or the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The gathered tensor; all ranks must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def blocks_of(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The repeated parts of a network: what its outermost module lists hold."""
    blocks: list[tuple[str, nn.Module]] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer, _ in blocks):
            blocks += [(f"{name}.{child}", block) for child, block in module.named_children()]
    return blocks


def shard(network: nn.Module, device: str, precision: str, *, offload_optimizer: bool) -> None:
    """FSDP2 in place: each block gathers its weights for its own forward and backward pass.

    With bf16 the weights travel and compute in bf16, gradients are summed in float32, and the optimizer keeps float32
    weights. Inputs are not cast: a timestep of 0..1000 has no place in bf16.
    """
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if precision == "bf16":
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    cuda = device == "cuda"
    offload = CPUOffloadPolicy(pin_memory=cuda) if offload_optimizer else OffloadPolicy()
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    for _, block in blocks_of(network):
        fully_shard(block, mesh=mesh, mp_policy=policy, offload_policy=offload)
    fully_shard(network, mesh=mesh, mp_policy=policy, offload_policy=offload)
