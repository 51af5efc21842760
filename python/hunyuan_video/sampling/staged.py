"""Models that are in memory only while they work: the text encoders, then the transformer block by block, then the VAE.

A run gives the bits that it gives with everything loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hunyuan_ext.core.rehearsal import Machine
from hunyuan_video.checkpoints.layout import PARTS, part_folders
from hunyuan_video.checkpoints.locate import open_checkpoint
from hunyuan_video.checkpoints.pipeline import load_parts, vae_dtype
from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.fingerprint import fingerprint
from hunyuan_video.models import VAEConfig
from hunyuan_video.models.grid import Grid
from hunyuan_video.models.lora import active_adapters
from hunyuan_video.models.transformer.streamed import sorted_state, stream_blocks, stream_of
from hunyuan_video.planning.budget import resident
from hunyuan_video.planning.decoding import decode_choice, frames_bytes, pixels_of, vae_bytes
from hunyuan_video.sampling.models import LoadedModels, grid_of
from hunyuan_video.sampling.request import SamplingDefaults

if TYPE_CHECKING:
    from hunyuan_video.distributed.shared_weights import SharedFill
    from hunyuan_video.distributed.team import Team


class StagedModels(LoadedModels):
    """`LoadedModels` of a checkpoint whose parts come when they are used, in the way of `memory="stream"`.

    limit: bytes of the memory in which the models run, for everything; keep: first blocks that stay when they have
    come. `vae` and the text encoders are read at every access and belong to whoever asked.
    """

    memory = "stream"

    def __init__(
        self, folder: Path, name: str, parts: Sequence[str], *, dtype: torch.dtype | None, device: torch.device,
        adapter: str | None, quantize: Any, defaults: SamplingDefaults, limit: int | None = None, keep: int = 0,
    ):  # fmt: skip
        self._parts = tuple(part for part in PARTS if part in parts)
        self._how: dict[str, Any] = {"dtype": dtype, "device": device, "stream": True}
        self._folder = folder
        loaded = load_parts(folder, ("transformer",), adapter=adapter, quantize=quantize, **self._how)
        self.transformer = loaded["transformer"]
        stream_blocks(self.transformer, device, keep)
        self.defaults, self.name, self.limit = defaults, name, limit
        self._vae_config = open_checkpoint(part_folders(folder)["vae"], "vae").config if self.has("vae") else None
        grid_of(self.transformer.config, self._vae_config)
        self._preview = None
        self._fitting = threading.Lock()
        self._known: dict[Any, str] = {}
        self._shared: list[SharedFill] = []

    def has(self, part: str) -> bool:
        return part in self._parts

    def _read(self, part: str) -> Any:
        return load_parts(self._folder, (part,), **self._how)[part] if self.has(part) else None

    @property
    def vae(self) -> Any:  # type: ignore[override]
        return self._read("vae")

    @property
    def text_encoder(self) -> Any:  # type: ignore[override]
        return self._read("text_encoder")

    @property
    def clip_text_encoder(self) -> Any:  # type: ignore[override]
        return self._read("clip_text_encoder")

    @property
    def grid(self) -> Grid:
        return grid_of(self.transformer.config, self._vae_config)

    def parts(self) -> Any:
        return iter((self.transformer,))

    def to(self, device: torch.device | str) -> None:
        raise ArgumentError("to: streamed models stay on their device; load them again with device=")

    def fingerprints(self) -> dict[str, str]:
        """As of loaded models; every weight is read for the first, and again when adapters have changed."""
        key = tuple(sorted(active_adapters(self.transformer).items())), _fused(self.transformer)
        if key not in self._known:
            self._known[key] = fingerprint(self.transformer, sorted_state(self.transformer))
        found = {"transformer": self._known[key]}
        if self.has("vae"):
            if "vae" not in self._known:
                self._known["vae"] = fingerprint(self.vae)
            found["vae"] = self._known["vae"]
        return found

    def share(self, team: Team) -> None:
        """Every rank keeps its part of the blocks. The first rank reads all of them before, for the fingerprint."""
        from hunyuan_video.distributed.shared_weights import share_weights

        if team.first:
            self.fingerprints()
        self._shared = share_weights(self.transformer, team.weights)
        super().share(team)

    def begin(self) -> None:
        stream = stream_of(self.transformer)
        assert stream is not None
        stream.release()
        for part in self._shared:
            part.release()

    def decode_way(self, latents: Tensor, mode: str) -> tuple[str, int | None]:  # [N, C, T, h, w]
        """The blocks leave; "auto" becomes exact where its own way would not fit, within what is left."""
        self.begin()
        config = self._vae_config
        if self.limit is None or not isinstance(config, VAEConfig):
            return mode, None
        device = self.device
        shape = latents.shape[1], latents.shape[2], latents.shape[3], latents.shape[4]
        if device.type == "cpu":
            taken, machine = resident() + frames_bytes(pixels_of(config, shape)), Machine()
        else:
            taken = torch.cuda.memory_allocated(device)
            machine = Machine("cuda", torch.cuda.get_device_capability(device))
        dtype = vae_dtype(self._how["dtype"], device)
        room = self.limit - taken - vae_bytes(config, dtype)
        chosen, budget, live = decode_choice(config, shape, mode, dtype, machine, room)
        if live is None:
            raise UserError(
                f"decoding: {max(room, 0) / 1e9:.1f} GB are left and exact mode cannot do with that; give the run more "
                "memory, or decode the latents elsewhere (hunyuan-video decode)"
            )
        return chosen, budget


def _fused(transformer: Any) -> tuple[str, ...]:
    return tuple(name for name, part in transformer.named_modules() if getattr(part, "fused", False))
