"""Ways back when memory runs out in the middle of a run: the step, or the decode, is done again with less in memory.

Each way is taken once, the cheapest first, and stays for what comes after. Without one left the run ends, and its
state file continues it elsewhere.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hunyuan_video.errors import OutOfMemory, notify
from hunyuan_video.models.transformer.chunks import TOKENS, TokenChunks
from hunyuan_video.models.transformer.streamed import stream_loaded, stream_of
from hunyuan_video.sampling.models import LoadedModels

LEAST_PART = 2048  # tokens worked on at a time
BUDGETS = (1 << 30, 1 << 28, 1 << 26)  # bytes of exact decoding


def ways_to_sample(models: LoadedModels, tokens: int) -> Iterator[str]:
    """Takes one way back after another, and says what it was. tokens: of the longest sequence of a block."""
    transformer = models.transformer
    executor = getattr(transformer, "executor", None)
    if executor is None:
        return
    parts = next((layer.tokens for layer in executor.layers if isinstance(layer, TokenChunks)), TOKENS)
    if min(tokens, parts) > LEAST_PART:
        transformer.executor = executor.adding(TokenChunks(LEAST_PART))
        yield f"blocks work on {LEAST_PART} tokens at a time"
    stream = stream_of(transformer)
    if stream is not None and stream.keep:
        stream.keep = 0
        stream.release()
        yield "no block stays in memory between steps"
    elif stream is None and beside_host(models.device):
        stream_loaded(transformer, models.device)
        yield "weights wait in host memory and come block by block"


def beside_host(device: torch.device) -> bool:
    """True if the host's memory is another than the device's."""
    return device.type != "cpu"


def decoded_within(
    models: LoadedModels,
    latents: Tensor,  # [N, C, T, h, w]
    mode: str,
    decode: Callable[[str, int | None], Tensor],  # (mode, budget) -> [N, 3, F, H, W]
) -> Tensor:
    """Frames of latents, in a mode of the VAE; where memory runs out, exactly and within less, which a Notice says.

    OutOfMemory where no budget is small enough.
    """
    chosen, budget = models.decode_way(latents, mode)
    smaller = [size for size in BUDGETS if budget is None or size < budget]
    while True:
        try:
            return decode(chosen, budget)
        except OutOfMemory as error:
            if not smaller:
                raise
            reason = str(error).split(";")[0]
        chosen, budget = "exact", smaller.pop(0)
        make_room(models)
        line = f"{reason}: it is done again in exact mode, {budget >> 20} MiB at a time, plain up to rounding"
        notify(line)


def make_room(models: LoadedModels) -> None:
    """Gives back what a failed try left, and moves the transformer's blocks to the host where that is elsewhere."""
    transformer, device = models.transformer, models.device
    if beside_host(device) and hasattr(transformer, "executor") and stream_of(transformer) is None:
        stream_loaded(transformer, device)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
