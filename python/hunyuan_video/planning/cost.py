"""Cost of a training step of the transformer, from a forward pass on the meta device: no weight is allocated.

FLOPs are counted operation by operation, and so are the bytes that autograd keeps; attention is counted as the fused
kernel that a GPU runs (it keeps q, k, v, the result and one number a row, not the scores).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.distributed import activation_checkpoint
from hunyuan_video.distributed.fsdp import blocks_of
from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig
from hunyuan_video.models.grid import Grid

BYTES = 2  # bf16


@dataclass(frozen=True)
class Cost:
    """Cost of the forward pass of one micro-batch."""

    tokens: int  # of one sample, with its text
    flops: float
    block_flops: float  # of them, in blocks, which may run again
    kept: list[int]  # bytes for the backward pass, by block
    kept_selective: list[int]  # the same with the results of products and attention only
    kept_outside: int  # of blocks
    block_input: int  # bytes

    def activations(self, recompute: str, every: int = 1) -> int:
        """Bytes at the largest moment: all that is kept, and the block that is being computed again."""
        again = range(0, len(self.kept), every) if recompute != "none" else range(0)
        small = self.kept_selective if recompute == "selective" else [0] * len(self.kept)
        total = sum(small[i] + self.block_input if i in again else kept for i, kept in enumerate(self.kept))
        return self.kept_outside + total + max((self.kept[i] for i in again), default=0)

    def flops_of_training(self, recompute: str, every: int = 1) -> float:
        """Forward, twice that backward, and blocks that run again (products and attention do not with selective)."""
        again = self.block_flops / every if recompute == "blocks" else 0.0
        return 3 * self.flops + again


def parameters_of(config: TransformerConfig) -> dict[str, int]:
    """Parameter name -> number of values."""
    with torch.device("meta"):
        return {name: weight.numel() for name, weight in HunyuanVideoTransformer(config).named_parameters()}


def cost_of(config: TransformerConfig, bucket: Bucket, grid: Grid, batch: int, text_length: int = 256) -> Cost:
    """Cost of a micro-batch of a bucket; one block of each kind runs and counts for all of its kind."""
    counts = [config.double_blocks, config.single_blocks]
    small = dataclasses.replace(config, double_blocks=min(counts[0], 1), single_blocks=min(counts[1], 1))
    with torch.device("meta"):
        network = HunyuanVideoTransformer(small).to(torch.bfloat16)
    _, *places = grid.latent_shape(*bucket.shape)
    latents = (batch, config.in_channels, *places)
    meter = _Meter(network)
    with torch.device("meta"), meter:
        arguments: dict[str, Tensor] = {
            "text": torch.empty(batch, text_length, config.text_dim, dtype=torch.bfloat16),
            "pooled_text": torch.empty(batch, config.pooled_text_dim, dtype=torch.bfloat16),
        }
        if config.guidance_embed:
            arguments["guidance"] = torch.empty(batch)
        network(torch.empty(latents, dtype=torch.bfloat16), torch.empty(batch), **arguments)
    tokens = math.prod(places) // config.patch_volume + text_length
    repeats = [count for count in counts if count]
    flops = meter.block_flops()
    outside = meter.flops() - sum(flops)

    def all_blocks(one_each: list) -> list:
        return [value for value, count in zip(one_each, repeats, strict=True) for _ in range(count)]

    return Cost(
        tokens,
        outside + sum(all_blocks(flops)),
        sum(all_blocks(flops)),
        all_blocks(meter.kept),
        all_blocks(meter.selective),
        meter.kept_outside,
        batch * tokens * config.hidden_size * BYTES,
    )


class _Meter:
    """Counts inside a `with`."""

    def __init__(self, network: nn.Module):
        self.network = network
        self.names = [name for name, block in blocks_of(network) if not name.startswith("txt_in")]
        self.kept, self.selective, self.kept_outside, self.now = [0] * len(self.names), [0] * len(self.names), 0, -1
        self.weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
        self.seen: dict[int, Any] = {}  # storages, held so that their addresses stay theirs
        self.attention = _Attention()
        self.counter = FlopCounterMode(display=False, depth=None)  # type: ignore[arg-type]
        self.handles: list[Any] = []

    def __enter__(self) -> None:
        for index, name in enumerate(self.names):
            block = self.network.get_submodule(name)
            self.handles.append(block.register_forward_pre_hook(self._enter(index)))
            self.handles.append(block.register_forward_hook(self._leave))
        self.contexts: list[Any] = [
            saved_tensors_hooks(self._pack, lambda t: t),
            self.attention,
            self.counter,
            _Results(self._result),
        ]
        for context in self.contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self.contexts):
            context.__exit__(*error)
        for handle in self.handles:
            handle.remove()

    def _enter(self, index: int) -> Callable:
        def hook(module: nn.Module, args: Any) -> None:
            self.now = self.attention.block = index

        return hook

    def _leave(self, module: nn.Module, args: Any, out: Any) -> None:
        self.now = self.attention.block = -1

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights and storage._cdata not in self.seen:
            self.seen[storage._cdata] = storage
            if self.now < 0:
                self.kept_outside += storage.nbytes()
            else:
                self.kept[self.now] += storage.nbytes()
        return tensor

    def _result(self, name: str, out: Any) -> None:
        if self.now >= 0 and isinstance(out, Tensor) and name in activation_checkpoint.KEPT:
            self.selective[self.now] += out.nbytes

    def flops(self) -> float:
        return self.counter.get_total_flops() + sum(self.attention.flops.values())

    def block_flops(self) -> list[float]:
        counts = self.counter.get_flop_counts()
        top = type(self.network).__name__
        return [
            sum(counts.get(f"{top}.{name}", {}).values()) + self.attention.flops.get(index, 0.0)
            for index, name in enumerate(self.names)
        ]


class _Attention(TorchFunctionMode):
    """Stands for the fused attention kernel; counts its FLOPs by block (-1: outside)."""

    def __init__(self) -> None:
        super().__init__()
        self.block = -1
        self.flops: dict[int, float] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        q, k, v = args[:3]  # [B, H, S, D]
        self.flops[self.block] = self.flops.get(self.block, 0.0) + 4.0 * q.numel() * k.shape[2]
        return _Fused.apply(q, k, v)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:3], dtype=torch.float32))
        return out


class _Results(TorchDispatchMode):
    """Tells what each operation returned."""

    def __init__(self, tell: Callable[[str, Any], None]):
        super().__init__()
        self.tell = tell

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.tell(func.overloadpacket.__name__, out)
        return out
