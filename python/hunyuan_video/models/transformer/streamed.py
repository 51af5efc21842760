"""Weights that come when their block is due: one block at work, the next on its way, the others not in memory.

A module whose tensors are on the meta device may have an attribute `stored`: a function (twin, device) that fills a
copy of it. `modulation.copied` makes such copies of whole blocks, adapters and hooks and all; the modules themselves
are never touched, so any number of runs may share them. The arithmetic sees the tensors that a loaded model has, so
the results have the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from hunyuan_video.models.transformer.executor import Layer, Run
from hunyuan_video.models.transformer.modulation import copied

MODULATIONS = ("img_mod", "txt_mod", "modulation")  # children of a block that a step with a table does not read


class WeightStream(Layer):
    """Brings blocks to a device one ahead; the first `keep` of them stay there once they have come, until `release`.

    On CUDA a stream of its own copies while the device computes; the reading thread waits for the file. together:
    others read the same blocks at the same time, and wait for this: none that is due is left out.
    """

    place = "weights"
    together = False

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device, keep: int = 0):
        self.blocks, self.device, self.keep = tuple(blocks), device, keep
        self.number = {block: index for index, block in enumerate(self.blocks)}
        self.kept: dict[int, nn.Module] = {}
        self._pass = threading.local()

    def all_blocks(self, run: Run, img: list[Tensor], *args: Any, **kwargs: Any) -> Tensor:
        before = getattr(self._pass, "ahead", None)
        table = args[4] if len(args) > 4 else kwargs.get("modulations")
        ahead = self._pass.ahead = _Ahead(self, with_modulations=table is None)
        try:
            return run(img, *args, **kwargs)
        finally:
            self._pass.ahead = before
            ahead.close()

    def around(self, run: Run) -> Run:
        def brought(block: nn.Module, *args: Any) -> Any:
            ahead = getattr(self._pass, "ahead", None)
            if ahead is None or block not in self.number:
                return run(block, *args)
            return run(ahead.take(self.number[block]), *args)

        return brought

    def bring(self, index: int, with_modulations: bool) -> nn.Module:
        """A block with its weights on the device; kept ones are read once."""
        keeps = index < self.keep and not with_modulations
        twin = self.kept.get(index) if keeps else None
        if twin is None:
            with torch.no_grad():
                twin = copied(self.blocks[index], self.device, () if with_modulations else MODULATIONS)
            if keeps:
                self.kept[index] = twin
        return twin

    def release(self) -> None:
        """Forgets the blocks that were kept: for what comes after, or because adapters have changed."""
        self.kept = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> WeightStream:
        return WeightStream(self.blocks, self.device, self.keep)


class _Ahead:
    """One pass over the blocks: whichever is taken, the next one is being read."""

    def __init__(self, stream: WeightStream, with_modulations: bool):
        self.stream, self.with_modulations = stream, with_modulations
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self.coming: tuple[int, Future] | None = None
        on_cuda = stream.device.type == "cuda"
        self.copies = torch.cuda.Stream(stream.device) if on_cuda else None

    def take(self, index: int) -> nn.Module:
        if self.coming is None or self.coming[0] != index:
            self.coming = index, self.reader.submit(self._read, index)
        twin, done = self.coming[1].result()
        self.coming = None
        if index + 1 < len(self.stream.blocks):
            self.coming = index + 1, self.reader.submit(self._read, index + 1)
        if done is not None:
            current = torch.cuda.current_stream(self.stream.device)
            current.wait_event(done)
            for tensor in (*twin.parameters(), *twin.buffers()):
                if tensor.is_cuda:
                    tensor.record_stream(current)
        return twin

    def _read(self, index: int) -> tuple[nn.Module, Any]:
        if self.copies is None:
            return self.stream.bring(index, self.with_modulations), None
        with torch.cuda.stream(self.copies):
            return self.stream.bring(index, self.with_modulations), self.copies.record_event()

    def close(self) -> None:
        self.reader.shutdown(wait=True, cancel_futures=not self.stream.together)


def stream_of(model: Any) -> WeightStream | None:
    """The stream of a transformer whose blocks are not in memory."""
    layers = getattr(getattr(model, "executor", None), "layers", ())
    return next((layer for layer in layers if isinstance(layer, WeightStream)), None)


def stream_blocks(model: Any, device: torch.device, keep: int = 0) -> None:
    """Lets the blocks of a transformer, stored elsewhere, come to the device when they are due."""
    blocks = (*model.double_blocks, *model.single_blocks)
    model.executor = model.executor.adding(WeightStream(blocks, device, keep))


def stream_loaded(model: Any, device: torch.device) -> None:
    """Moves the blocks of a loaded transformer to host memory, from where they come to the device when they are due."""
    stream_blocks(model, device)
    for block in (*model.double_blocks, *model.single_blocks):
        block.to("cpu")


def sorted_state(model: Any) -> Iterator[tuple[str, Tensor]]:
    """`sorted(model.state_dict().items())` of a streamed transformer as it would be in memory, a block at a time."""
    stream = stream_of(model)
    assert stream is not None
    names = {block: name for name, block in model.named_modules() if block in stream.number}
    prefixes = tuple(f"{name}." for name in names.values())
    outside = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(prefixes)}
    blocks = {f"{name}.": block for block, name in names.items()}
    for key in sorted([*outside, *blocks]):
        if key in outside:
            yield key, outside[key]
        else:
            with torch.no_grad():
                twin = copied(blocks[key], stream.device)
            yield from ((key + name, tensor) for name, tensor in sorted(twin.state_dict().items()))
