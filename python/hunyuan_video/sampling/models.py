"""The loaded models of a pipeline, of which nothing changes while they sample: any number of runs share one object."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from hunyuan_video.checkpoints.configs import check_channels
from hunyuan_video.checkpoints.layout import PARTS, checkpoint_folder
from hunyuan_video.checkpoints.pipeline import (
    default_device,
    load_parts,
    move_parts,
    stored_defaults,
)
from hunyuan_video.errors import ArgumentError
from hunyuan_video.fingerprint import fingerprint
from hunyuan_video.models.grid import Grid
from hunyuan_video.sampling.host import own_precision
from hunyuan_video.sampling.preview import LatentPreview
from hunyuan_video.sampling.request import STORED, SamplingDefaults

if TYPE_CHECKING:
    from hunyuan_video.distributed.team import Team
    from hunyuan_video.models import CausalVAE, ClipTextEncoder, HunyuanVideoTransformer, TextEncoder, TransformerConfig


FAST_HUNYUAN = {"num_inference_steps": 6, "flow_shift": 17.0}  # of its card


class LoadedModels:
    """A transformer, a VAE and two text encoders, what they are sampled with by default, and their grid.

    Every part but the transformer may be missing. memory: "resident" or "stream", as plans call it. Runs may go on side
    by side, in one thread or in several: all that changes from step to step is in the run. team: ranks that have the
    same models and make every run together, in the same order; None: this process alone.
    """

    memory = "resident"
    team: Team | None = None

    def __init__(
        self,
        transformer: HunyuanVideoTransformer,
        vae: CausalVAE | None = None,
        text_encoder: TextEncoder | None = None,
        clip_text_encoder: ClipTextEncoder | None = None,
        *,
        defaults: SamplingDefaults | None = None,
        name: str = "",
    ):
        self.transformer = transformer
        self.vae = vae
        self.text_encoder = text_encoder
        self.clip_text_encoder = clip_text_encoder
        self.defaults = defaults or SamplingDefaults()
        self.name = name
        grid_of(transformer.config, None if vae is None else vae.config)
        self._preview: LatentPreview | None = None
        self._fitting = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path = "tiny",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        parts: Sequence[str] = PARTS,
        adapter: str | None = None,
        quantize: Literal["fp8", "int8"] | None = None,
    ) -> LoadedModels:
        """Loads a whole checkpoint; the arguments are those of `HunyuanVideoPipeline.from_pretrained`."""
        if "transformer" not in parts:
            raise ArgumentError("parts must contain 'transformer'")
        folder = checkpoint_folder(path)
        chosen = default_device() if device is None else torch.device(device)
        with own_precision(chosen):
            loaded = load_parts(folder, tuple(parts), dtype=dtype, device=chosen, adapter=adapter, quantize=quantize)
        return cls(**loaded, defaults=read_defaults(folder, adapter), name=str(path))

    @property
    def grid(self) -> Grid:
        """Pixels per latent and token; without a VAE, the released one's compression is assumed."""
        return grid_of(self.transformer.config, None if self.vae is None else self.vae.config)

    @property
    def device(self) -> torch.device:
        return next(self.transformer.parameters()).device

    def has(self, part: str) -> bool:
        """True if a part of the checkpoint is there."""
        return getattr(self, part) is not None

    def share(self, team: Team) -> None:
        """From now on the ranks of a team make every run together. All of them call it, with the same models."""
        self.team = team

    def begin(self) -> None:
        """A run begins: what earlier ones left for the next may be stale."""

    def decode_way(self, latents: Tensor, mode: str) -> tuple[str, int | None]:  # [N, C, T, h, w]
        """Mode and memory budget of the VAE for latents of this size, before it is asked for."""
        return mode, None

    def parts(self) -> Iterator[nn.Module]:
        """The models that are there."""
        every = (self.transformer, self.vae, self.text_encoder, self.clip_text_encoder)
        return (part for part in every if part is not None)

    def to(self, device: torch.device | str) -> None:
        """Moves every part, those in float16 to bfloat16 or float32 where they come to a CPU."""
        move_parts(list(self.parts()), torch.device(device))

    def preview(self, latents: Tensor) -> Tensor:
        """A cheap picture of latents [N, C, T, h, w]: uint8 [N, T, h, w, 3], see `sampling.preview`."""
        with self._fitting, own_precision(self.device):
            if self._preview is None:
                self._preview = LatentPreview.fit(self.vae) if self.has("vae") else LatentPreview()
        with own_precision(self.device):
            return self._preview(latents)

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the models that decide a video's bits."""
        parts = {"transformer": self.transformer, "vae": self.vae}
        return {name: fingerprint(part) for name, part in parts.items() if part is not None}


def read_defaults(folder: Path, adapter: str | None = None) -> SamplingDefaults:
    """A checkpoint's sampling defaults, with an adapter of its own or (None) with its default one."""
    values = stored_defaults(folder, adapter)
    if not values:
        return SamplingDefaults(**FAST_HUNYUAN) if is_fast_hunyuan(folder) else SamplingDefaults()
    known = {name: values[name] for name in (*STORED, "fps") if name in values}
    return SamplingDefaults(**{"negative_prompt": "", **known})


def is_fast_hunyuan(folder: Path) -> bool:
    """True for a checkpoint that calls itself FastHunyuan: its weights have nothing that tells."""
    return any(re.search(r"fast[-_]?hunyuan", part, re.IGNORECASE) for part in folder.parts[-4:])


def grid_of(config: TransformerConfig, vae: Any) -> Grid:  # vae: its config or None
    """ArgumentError or UserError where the two do not belong together, or cannot be sampled."""
    check_channels(config, "this pipeline")
    if vae is not None and vae.latent_channels != config.in_channels:
        raise ArgumentError(
            f"the transformer takes {config.in_channels} latent channels, the vae makes {vae.latent_channels}; "
            "these two do not belong together"
        )
    return Grid.of(vae, config)
