"""Streamed weights that ranks share: each keeps the blocks that are its own and sends them when they are due.

Block i is rank (i modulo N)'s, which reads it from its file once a run; the others receive it, a block ahead of the
computation, and forget it. The bytes that are sent are those that every rank would have read, so the results have the
same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hunyuan_video.models.transformer.streamed import MODULATIONS, stream_of

ALIGNMENT = 16  # bytes at which a tensor begins
Fill = Callable[[nn.Module, torch.device], None]  # gives a copy of a module its tensors


class Entry(NamedTuple):
    """A tensor of a module, in what is sent."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    parameter: bool
    start: int  # byte

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class SharedFill:
    """Fills a copy of a module on every rank of a group, from what its owner reads. All ranks call it in one order."""

    def __init__(self, fill: Fill, owner: int, group: Any, keeps: bool):
        self.fill, self.owner, self.group, self.keeps = fill, owner, group, keeps
        self.entries: list[Entry] | None = None
        self.described = False  # every rank has the entries
        self.held: Tensor | None = None

    def __call__(self, twin: nn.Module, device: torch.device) -> None:
        owns = dist.get_rank(self.group) == self.owner
        flat = self.held if owns else None
        if owns and flat is None:
            flat = self._read(twin, device)
        source = dist.get_global_rank(self.group, self.owner)
        if not self.described:
            box = [self.entries]
            dist.broadcast_object_list(box, src=source, group=self.group)
            self.entries, self.described = box[0], True
        assert self.entries is not None
        if flat is None:
            flat = torch.empty(_size(self.entries), dtype=torch.uint8, device=device)
        dist.broadcast(flat, src=source, group=self.group)
        for entry in self.entries:
            tensor = flat[entry.start : entry.start + entry.bytes].view(entry.dtype).view(entry.shape)
            if entry.parameter:
                twin._parameters[entry.name] = nn.Parameter(tensor, requires_grad=False)
            else:
                twin._buffers[entry.name] = tensor
        self.held = flat if owns and self.keeps else None

    def _read(self, twin: nn.Module, device: torch.device) -> Tensor:  # [bytes]
        """The owner's tensors, one after the other."""
        self.fill(twin, device)
        entries, start = [], 0
        for tensors in (twin._parameters, twin._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    parameter = tensors is twin._parameters
                    entries.append(Entry(name, tuple(tensor.shape), tensor.dtype, parameter, start))
                    start += -(-entries[-1].bytes // ALIGNMENT) * ALIGNMENT
        self.entries = entries
        flat = torch.zeros(_size(entries), dtype=torch.uint8, device=device)
        for entry in entries:
            values = (twin._parameters if entry.parameter else twin._buffers)[entry.name]
            assert values is not None
            place = flat[entry.start : entry.start + entry.bytes]
            place.copy_(values.detach().contiguous().flatten().view(torch.uint8))
        return flat

    def release(self) -> None:
        """Forgets what the owner keeps; the next call reads it again."""
        self.held = None


def _size(entries: list[Entry]) -> int:
    return sum(-(-entry.bytes // ALIGNMENT) * ALIGNMENT for entry in entries)


def share_weights(transformer: Any, group: Any) -> list[SharedFill]:
    """Deals the blocks of a streamed transformer out to the ranks of a group; what they keep may be released.

    From then on all ranks must read its blocks in the same order. Modulations, which are read once a run, are not kept.
    """
    stream = stream_of(transformer)
    assert stream is not None
    stream.keep, stream.together = 0, True
    fills = []
    for index, block in enumerate(stream.blocks):
        for name, module in block.named_modules():
            fill = vars(module).get("stored")
            if fill is not None:
                keeps = name.split(".")[0] not in MODULATIONS
                shared = SharedFill(fill, index % dist.get_world_size(group), group, keeps)
                vars(module)["stored"] = shared
                fills.append(shared)
    return fills
