"""Captioned latents of a toyworld: what every training of the transformer reads, and how its result is judged."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from hunyuan_video.data.cache import latent_cache
from hunyuan_video.data.encoder import encode_clips
from hunyuan_video.data.toyworld import caption, render
from hunyuan_video.data.toyworld.scene import AnyScene
from hunyuan_video.data.world import WorldConfig, scenes_of
from hunyuan_video.errors import Print
from hunyuan_video.evaluation.prompt_following import held_out_prompts, judge, shifted
from hunyuan_video.media.pixels import to_unit
from hunyuan_video.media.sheets import contact_sheet
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer
from hunyuan_video.models.grid import Grid
from hunyuan_video.models.precision import quick
from hunyuan_video.training.parts import load_text
from hunyuan_video.training.tasks.caption_bank import Embedder
from hunyuan_video.training.tasks.frames import frames_of

# (prompts, first seed), in image-to-video and the first latent frames [N, C, 1, h, w] -> latents [N, C, T, h, w]
Sampler = Callable[..., Tensor]


class CaptionedLatents:
    """Cached latents, the scenes they show, text encoders and VAE (all frozen).

    latents: [clips, C, T, h, w] float16, model space. folder: of the run; the cache lies beside it. image_first: for
    image-to-video, see `data.encoder.encode_clips`. device: where the VAE encodes and the text encoders run.
    picked: False for a training that reads no clips, only captions; then none is encoded and `pick` has none.
    """

    def __init__(
        self,
        world: WorldConfig,
        vae: str | Path,
        text: str | Path,
        folder: Path,
        report: Print = print,
        image_first: bool = False,
        device: str = "cpu",
        picked: bool = True,
    ):
        self.world = world
        self.image_first = image_first
        self.vae = CausalVAE.from_pretrained(vae, dtype=torch.float32).eval().requires_grad_(False).to(device)
        grid = replace(Grid.of(self.vae.config), patch=1)  # a transformer's patches are its task's business
        world.check(grid)
        self.shape = grid.latent_shape(world.num_frames, world.size, world.size)  # (C, T, h, w) of one clip
        self.embed = Embedder(*(encoder.to(device) for encoder in load_text(text)))
        if picked:
            self.latents = latent_cache(self.vae, world, folder.parent / "latents", report, image_first=image_first)

    @cached_property
    def scenes(self) -> list[AnyScene]:
        return scenes_of(self.world, 0, self.world.clips)

    def check(self, network: HunyuanVideoTransformer) -> None:
        """UserError unless the transformer's patches divide the clips' latents."""
        self.world.check(Grid.of(self.vae.config, network.config))

    def pick(self, count: int, generator: torch.Generator) -> tuple[Tensor, list[int]]:
        """Random clips: latents [count, C, T, h, w] float32, and their numbers."""
        picks = torch.randint(len(self.latents), (count,), generator=generator, device="cpu")
        return self.latents[picks].float(), picks.tolist()

    def captions(self, picks: list[int], generator: torch.Generator, dropout: float = 0.0) -> list[str]:
        """A sentence for each clip, in a random form, or with probability `dropout` the empty caption."""
        rng = random.Random(int(torch.randint(2**31, (1,), generator=generator, device="cpu")))
        return ["" if rng.random() < dropout else caption(self.scenes[i], rng=rng).text for i in picks]

    def noise(self, count: int, seed: int) -> Tensor:
        """[count, C, T, h, w] float32, one generator per clip: seed, seed + 1, ..."""
        generators = (torch.Generator().manual_seed(seed + i) for i in range(count))
        return torch.cat(
            [
                torch.randn((1, *self.shape), generator=generator, dtype=torch.float32, device="cpu")
                for generator in generators
            ]
        )

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:  # [N, C, T, h, w] -> uint8 [N, F, H, W, 3]
        device = self.vae.quant_conv.weight.device
        with quick(device.type):
            return frames_of(self.vae, latents.to(device)).cpu()

    def samples(
        self,
        sample: Sampler,
        count: int,
        batch: int,  # clips at once: those of the training's micro-batch
    ) -> tuple[Tensor, list[AnyScene], list[str]]:  # uint8 [N, F, H, W, 3]
        """Clips for `count` held-out prompts, with the scenes that these describe; the seeds depend on nothing else."""
        scenes, prompts = held_out_prompts(self.world.name, count, self.world.held_out_seed)
        starts = range(0, len(prompts), batch)
        clips = []
        for i in starts:
            first = (self.first_frames(scenes[i : i + batch]),) if self.image_first else ()
            clips.append(self.decode(sample(prompts[i : i + batch], 100 + i, *first)))
        return torch.cat(clips), scenes, prompts

    def first_frames(self, scenes: list[AnyScene]) -> Tensor:
        """Latents of the scenes' first frames, [N, C, 1, h, w] float32."""
        frames = render(scenes, num_frames=self.world.num_frames, size=self.world.size)[:, :1]
        return encode_clips(self.vae, to_unit(frames.to(self.vae.quant_conv.weight.device)))

    def judge(self, sample: Sampler, count: int, batch: int, sheet: Path | None = None) -> dict[str, float]:
        """Prompt following of `count` held-out prompts, and with `floor_` before the name that of other prompts; of
        none, nothing.
        """
        if count < 1:
            return {}
        clips, scenes, prompts = self.samples(sample, count, batch)
        if sheet is not None:
            contact_sheet(sheet, list(clips[:16]), prompts[:16])
        floor = judge(clips, shifted(scenes))
        return {**judge(clips, scenes), **{f"floor_{key}": value for key, value in floor.items()}}
