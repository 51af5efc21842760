"""The pipeline: prompts in, videos out (paper section 4; the released program's behaviour, without its defects)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hunyuan_video.checkpoints.defaults import SamplingDefaults
from hunyuan_video.checkpoints.layout import PARTS, checkpoint_folder
from hunyuan_video.checkpoints.pipeline import check_channels, default_device, load_parts, move_parts, read_defaults
from hunyuan_video.errors import ArgumentError
from hunyuan_video.models.grid import Grid
from hunyuan_video.sampling.arguments import Arguments
from hunyuan_video.sampling.decode import as_output, decode_latents
from hunyuan_video.sampling.output import Finished, SampleOutput
from hunyuan_video.sampling.preview import LatentPreview
from hunyuan_video.sampling.prompts import PromptEmbeds, encode_prompts
from hunyuan_video.sampling.request import OUTPUT_TYPES, VAE_MODES, check_choice
from hunyuan_video.sampling.state import SamplingState, fingerprint
from hunyuan_video.sampling.stream import SampleStream

if TYPE_CHECKING:
    from hunyuan_video.models import CausalVAE, ClipTextEncoder, HunyuanVideoTransformer, TextEncoder
    from hunyuan_video.models.text.tokens import TokenReport


class HunyuanVideoPipeline:
    """Samples videos with a transformer, a VAE and two text encoders.

    Without text encoders a call needs prompt_embeds; without a VAE it gives latents only. `defaults` are the values
    where a call leaves them out; `name` says in previews of commands which checkpoint this is.
    """

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
        self.grid = _grid(transformer, vae)
        self._preview: LatentPreview | None = None

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path = "tiny",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        parts: Sequence[str] = PARTS,
        adapter: str | None = None,
    ) -> HunyuanVideoPipeline:
        """Loads "tiny" (bundled) or a checkpoint folder in diffusers or official layout.

        dtype: of the transformer; None: bfloat16 on a GPU, float32 on the CPU. The VAE runs in float16 on a GPU, in
        float32 on the CPU or with dtype float32. For float16 a CPU takes bfloat16 or float32, with one warning.
        device: None: the GPU if there is one. parts: those to load, of "transformer", "vae", "text_encoder",
        "clip_text_encoder". adapter: one of the checkpoint's by name, or a LoRA's .safetensors file, from
        diffusers, ComfyUI or kohya, ":0.8" after it for its weight, several with commas between, all merged into the
        transformer (beside FP8 weights they stay low-rank branches); None: the checkpoint's default (of "tiny", the
        four-step student); "none": the
        plain transformer, with its own number of steps and guidance. UserError, one line, for anything missing or
        damaged.
        """
        if "transformer" not in parts:
            raise ArgumentError("parts must contain 'transformer'")
        folder = checkpoint_folder(path)
        chosen = default_device() if device is None else torch.device(device)
        loaded = load_parts(folder, tuple(parts), dtype=dtype, device=chosen, adapter=adapter)
        return cls(**loaded, defaults=read_defaults(folder, adapter), name=str(path))

    @property
    def device(self) -> torch.device:
        return next(self.transformer.parameters()).device

    def to(self, device: torch.device | str) -> HunyuanVideoPipeline:
        """Moves every part, those in float16 to bfloat16 or float32 where they come to a CPU; returns the pipeline."""
        parts = (self.transformer, self.vae, self.text_encoder, self.clip_text_encoder)
        move_parts([part for part in parts if part is not None], torch.device(device))
        return self

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        *,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        true_cfg_scale: float | None = None,
        guidance_rescale: float | None = None,
        flow_shift: float | None = None,
        solver: str | None = None,
        num_videos_per_prompt: int | None = None,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,  # [N, C, T, h, w]
        image: Any = None,
        prompt_embeds: PromptEmbeds | None = None,
        negative_prompt_embeds: PromptEmbeds | None = None,
        output_type: str = "np",
        vae_mode: str = "auto",
        callback_on_step_end: Callable[..., Any] | None = None,
        resume_from: str | Path | SamplingState | None = None,
        checkpoint_to: str | Path | None = None,
        checkpoint_every: int = 1,
        checkpoint_extra: dict[str, Any] | None = None,
        batch_size: int = 1,
    ) -> SampleOutput:
        """Samples every prompt num_videos_per_prompt times. None stands for the checkpoint's default.

        height, width: multiples of 16. num_frames: 4k + 1; 1 makes images. guidance_scale: the embedded scale of a
        guidance-distilled model. true_cfg_scale: above 1, classifier-free guidance against negative_prompt, with
        guidance_rescale in 0..1 of the standard deviation restored. flow_shift: None: the checkpoint's, else 7, or 17
        below 20 steps (paper section 5.1). solver: one of `flow.SOLVERS`.

        seed s: video i of each prompt gets s + i; or a list, per prompt or per video; None: random (see out.seeds).
        generator: CPU generators instead of seeds. latents: the initial noise itself.
        image: what an image-to-video model continues, a file, a PIL image, or uint8 [H, W, 3], or one for each prompt;
        its largest centred part with the video's aspect ratio is resized to the video's size.

        output_type: "np" uint8 [N, F, H, W, 3]; "pt" float32 [N, 3, F, H, W] in 0..1; "pil" lists of images; "latent"
        no decoding. vae_mode: "plain", "tiled", "exact"; "auto": plain for videos within a tile of the VAE, for larger
        ones exact on a CPU (no seams, bounded memory) and tiled on a GPU.
        callback_on_step_end(pipe, step, timestep, {"latents": ...}) may return {"latents": replacement}.

        checkpoint_to: a state file, replaced atomically every checkpoint_every steps; checkpoint_extra: JSON kept in
        it. resume_from: continue such a file, bit for bit; leave out the other arguments, or give the same ones.
        batch_size: videos per transformer call; with 1 a video's bits do not depend on how many are made.

        Raises ArgumentError (a ValueError) for arguments that cannot work, UserError for failures; each is one line.
        """
        given = locals()
        stream = self.stream(**{name: given[name] for name in Arguments.__dataclass_fields__})
        return next(event.output for event in stream if isinstance(event, Finished))

    def stream(self, prompt: str | Sequence[str] | None = None, **arguments: Any) -> SampleStream:
        """The same run as `__call__` (same arguments), as an iterator: a `StepEvent` per step, then `Finished`."""
        unknown = sorted(set(arguments) - set(Arguments.__dataclass_fields__))
        if unknown:
            raise TypeError(f"stream() got an unexpected keyword argument {unknown[0]!r}")
        return SampleStream(self, Arguments(prompt=prompt, **arguments))

    def encode_prompt(
        self, prompt: str | Sequence[str], *, video: bool = True
    ) -> tuple[PromptEmbeds, dict[str, list[TokenReport]]]:
        """Embeddings of prompts for videos or images, and what each encoder read of them."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        return encode_prompts(self.text_encoder, self.clip_text_encoder, prompts, video=video)

    def decode(self, latents: Tensor, *, vae_mode: str = "auto", output_type: str = "np") -> Any:
        """Frames of latents [N, C, T, h, w] in model space; types as in `__call__`."""
        check_choice("vae_mode", vae_mode, VAE_MODES)
        check_choice("output_type", output_type, OUTPUT_TYPES[:-1])
        if self.vae is None:
            raise ArgumentError("this pipeline has no vae to decode with")
        return as_output(decode_latents(self.vae, latents, vae_mode), output_type)

    def preview(self, latents: Tensor) -> Tensor:
        """A cheap picture of latents [N, C, T, h, w]: uint8 [N, T, h, w, 3], see `sampling.preview`."""
        if self._preview is None:
            self._preview = LatentPreview() if self.vae is None else LatentPreview.fit(self.vae)
        return self._preview(latents)

    def fingerprints(self) -> dict[str, str]:
        """What identifies the models that decide a video's bits."""
        parts = {"transformer": self.transformer, "vae": self.vae}
        return {name: fingerprint(part) for name, part in parts.items() if part is not None}


def _grid(transformer: HunyuanVideoTransformer, vae: CausalVAE | None) -> Grid:
    """Pixels per latent and token; without a VAE, the released one's compression is assumed."""
    config = transformer.config
    check_channels(config, "this pipeline")
    patch = max(config.patch_size[1:])
    if vae is None:
        return Grid(latent_channels=config.in_channels, patch=patch)
    if vae.config.latent_channels != config.in_channels:
        raise ArgumentError(
            f"the transformer takes {config.in_channels} latent channels, the vae makes {vae.config.latent_channels}; "
            "these two do not belong together"
        )
    return Grid(config.in_channels, vae.config.temporal_compression, vae.config.spatial_compression, patch)
