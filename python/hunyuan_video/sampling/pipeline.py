"""The pipeline: prompts in, videos out (paper section 4; the released program's behavior, without its defects)."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

from hunyuan_video.checkpoints.layout import PARTS
from hunyuan_video.errors import ArgumentError
from hunyuan_video.models.grid import Grid
from hunyuan_video.rules import check_choice
from hunyuan_video.sampling.asynchronous import events_in_thread
from hunyuan_video.sampling.decode import as_output, decode_latents
from hunyuan_video.sampling.host import own_precision
from hunyuan_video.sampling.lora import AdapterMethods
from hunyuan_video.sampling.models import LoadedModels
from hunyuan_video.sampling.opening import open_models
from hunyuan_video.sampling.planned import plan_sampling
from hunyuan_video.sampling.prompts import PromptEmbeds, encode_prompts
from hunyuan_video.sampling.request import ARGUMENTS, FRAME_TYPES, SampleRequest, SamplingDefaults, check_argument
from hunyuan_video.sampling.resume_state import SamplingState
from hunyuan_video.sampling.run import Finished, SampleOutput, SampleStream, StepEvent

if TYPE_CHECKING:
    from hunyuan_video.models import CausalVAE, ClipTextEncoder, HunyuanVideoTransformer, TextEncoder
    from hunyuan_video.models.text.tokens import TokenReport
    from hunyuan_video.planning.run_plan import RunPlan

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Value = TypeVar("Value")


def arguments_of(other: Callable[Parameters, Any]) -> Callable[[Callable[..., Result]], Callable[Parameters, Result]]:
    """Gives a method that takes what it gets on the signature of another one, for editors and `inspect` too."""

    def decorate(method: Callable[..., Result]) -> Callable[Parameters, Result]:
        result = inspect.signature(method).return_annotation
        vars(method)["__signature__"] = inspect.signature(other).replace(return_annotation=result)
        return method

    return decorate


class _OfModels(Generic[Value]):
    """An attribute of the pipeline that is its models'."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, pipe: HunyuanVideoPipeline, owner: type) -> Value:
        return getattr(pipe.models, self.name)

    def __set__(self, pipe: HunyuanVideoPipeline, value: Value) -> None:
        setattr(pipe.models, self.name, value)


class HunyuanVideoPipeline(AdapterMethods):
    """Samples videos with a transformer, a VAE and two text encoders, which are in `models`.

    Without text encoders a call needs prompt_embeds; without a VAE it gives latents only. `defaults` are the values
    where a call leaves them out; `name` says in previews of commands which checkpoint this is.
    """

    transformer: _OfModels[HunyuanVideoTransformer] = _OfModels()
    vae: _OfModels[CausalVAE | None] = _OfModels()
    text_encoder: _OfModels[TextEncoder | None] = _OfModels()
    clip_text_encoder: _OfModels[ClipTextEncoder | None] = _OfModels()
    defaults: _OfModels[SamplingDefaults] = _OfModels()
    name: _OfModels[str] = _OfModels()

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
        self.models = LoadedModels(transformer, vae, text_encoder, clip_text_encoder, defaults=defaults, name=name)

    @classmethod
    def over(cls, models: LoadedModels) -> HunyuanVideoPipeline:
        """A pipeline over models that are loaded already, which others may use too, at the same time."""
        pipe = cls.__new__(cls)
        pipe.models = models
        return pipe

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path = "tiny",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        parts: Sequence[str] = PARTS,
        adapter: str | None = None,
        precision: str | None = None,
        memory: str = "auto",
        device_memory: str | int | None = None,
        host_memory: str | int | None = None,
    ) -> HunyuanVideoPipeline:
        """Loads "tiny" (bundled), a checkpoint folder in diffusers or official layout, or OWNER/NAME from the hub.

        dtype: of the transformer; None: bfloat16 on a GPU, float32 on the CPU. The VAE runs in float16 on a GPU, in
        float32 on the CPU or with dtype float32. For float16 a CPU takes bfloat16 or float32, with one warning.
        device: None: the GPU if there is one. parts: those to load, of "transformer", "vae", "text_encoder",
        "clip_text_encoder". adapter: one of the checkpoint's by name, or a LoRA's .safetensors file, from
        diffusers, ComfyUI or kohya, ":0.8" after it for its weight, several with commas between, all merged into the
        transformer (beside FP8 weights they stay low-rank branches); None: the checkpoint's default (of "tiny", the
        four-step student); "none": the
        plain transformer, with its own number of steps and guidance. UserError, one line, for anything missing or
        damaged.
        precision: of the transformer's blocks, converted while they are read: "bf16", "fp8", "int8" (CPUs), "auto";
        None: as stored. memory: "resident": everything stays loaded; "stream": text encoders, blocks and VAE are in
        memory only while they work, with the same bits; "auto": resident, unless limits are given that the plan of a
        video of the checkpoint's size does not keep. device_memory, host_memory: those limits, bytes or "16GB".
        """
        models = open_models(
            path, dtype=dtype, device=device, parts=parts, adapter=adapter, precision=precision, memory=memory,
            device_memory=device_memory, host_memory=host_memory,
        )  # fmt: skip
        return cls.over(models)

    def plan(self, **arguments: Any) -> RunPlan:
        """Memory and time of a call with these arguments, before it: `height`, `num_frames` and others of `__call__`,
        and `gpu`, `device_memory`, `host_memory`, `memory`, `precision` of `sampling.planned.plan_sampling`.

        Made from the checkpoint's files, with what this pipeline was loaded with. ArgumentError as a call raises.
        """
        given = {name: value for name, value in arguments.items() if name in ARGUMENTS}
        others = {name: value for name, value in arguments.items() if name not in ARGUMENTS}
        for name in ("batch_size", "vae_mode", "output_type"):
            if name in given:
                others[name] = given[name]
        prompts = given.get("prompt")
        others.setdefault("prompts", len(prompts) if isinstance(prompts, list | tuple) else 1)
        others.setdefault("encodes", given.get("prompt_embeds") is None)
        others.setdefault("memory", self.models.memory)
        if "gpu" not in others:
            others.setdefault("device", self.device)
        return plan_sampling(self.name, given, **{"dtype": self.transformer.dtype, **others})

    @property
    def grid(self) -> Grid:
        """Pixels per latent and token."""
        return self.models.grid

    @property
    def device(self) -> torch.device:
        return self.models.device

    def to(self, device: torch.device | str) -> HunyuanVideoPipeline:
        """Moves every part, those in float16 to bfloat16 or float32 where they come to a CPU; returns the pipeline."""
        self.models.to(device)
        return self

    def offload_modulations(self) -> HunyuanVideoPipeline:
        """Moves the transformer's layers that are read once a run to host memory: 27 % of its blocks.

        With FP8 weights a step of the released model then holds 13.9 GB, by count (docs/memory.md). Between runs, not
        during one; `to` undoes it. Returns the pipeline.
        """
        self.transformer.offload_modulations()
        return self

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        *,
        image: Any = None,
        video: Any = None,
        strength: float | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        sigmas: Sequence[float] | str | None = None,
        guidance_scale: float | None = None,
        true_cfg_scale: float | None = None,
        guidance_rescale: float | None = None,
        flow_shift: float | None = None,
        solver: str | None = None,
        cache: str | None = None,
        attention: str | None = None,
        riflex: int | None = None,
        num_videos_per_prompt: int | None = None,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,  # [N, C, T, h, w]
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
        progress: bool = False,
    ) -> SampleOutput:
        """Samples every prompt num_videos_per_prompt times. None stands for the checkpoint's default.

        height, width: multiples of `grid.multiple` pixels, 16 for the released model. num_frames: one more than a
        multiple of `grid.temporal`, 4 for the released model; 1 makes images. guidance_scale: the embedded scale of a
        guidance-distilled model. true_cfg_scale: above 1, classifier-free guidance against negative_prompt, with
        guidance_rescale in 0..1 of the standard deviation restored. flow_shift: None: the checkpoint's, else 7, or 17
        below 20 steps (paper section 5.1). solver: one of `flow.SOLVERS`.
        cache, attention: approximate ways that take less time, told in one line (docs/inference.md): "first_block" or
        "linear", ":0.06" after it for the threshold; "sliding_tile", ":0.3" for the share of steps before it.
        riflex: number of the frequency in time that is lowered for clips beyond its period (RIFLEx); another video.

        seed s, 0..2**64 - 1: video i of each prompt gets s + i, after the last one 0; or a list, per prompt or per
        video; None: random (see out.seeds). torch's CPU generator draws by the lower 32 bits of a seed only.
        generator: CPU generators instead of seeds. latents: the initial noise itself.
        image: what an image-to-video model continues, a file, a PIL image, or uint8 [H, W, 3], or one for each prompt;
        its largest centered part with the video's aspect ratio is resized to the video's size.

        video: a start, of which something stays: a file (a video at the checkpoint's frame rate, or a picture, which
        then stands still), a PIL image, uint8 [F, H, W, 3] or [H, W, 3], a list of PIL images as frames; or a list of
        such with one for each prompt. It is cut and resized likewise and becomes latents (1 - s) * start + s * noise
        at the noise level s of the first step that is run: strength, in (0, 1], default 0.8, is the share of the steps
        that are run, rounded down, the last ones of the schedule. 1 keeps nothing of the start.
        sigmas: own noise levels in place of num_inference_steps and flow_shift: falling, within (0, 1], one for each
        step, 0 after the last. They are used as they are, where diffusers' scheduler applies its shift to given ones.

        output_type: "np" uint8 [N, F, H, W, 3]; "pt" float32 [N, 3, F, H, W] in 0..1; "pil" lists of images; "latent"
        no decoding. vae_mode: "plain", "tiled", "exact"; "auto": plain for videos within a tile of the VAE, for larger
        ones exact on a CPU (no seams, bounded memory) and tiled on a GPU.
        callback_on_step_end(pipe, step, timestep, {"latents": ...}) may return {"latents": replacement}.

        checkpoint_to: a state file, replaced atomically every checkpoint_every steps; a full disk is told and the run
        goes on. checkpoint_extra: JSON kept in it. resume_from: continue such a file, bit for bit; leave out the other
        arguments, or give the same ones.
        batch_size: videos per transformer call; with 1 a video's bits do not depend on how many are made.
        progress: a bar of the steps on stderr.

        Raises ArgumentError (a ValueError) for arguments that cannot work, UserError for failures; each is one line.
        """
        given = locals()
        stream = self.stream(**{name: given[name] for name in ARGUMENTS})
        return next(event.output for event in stream if isinstance(event, Finished))

    @arguments_of(__call__)
    def stream(self, *arguments: Any, **named: Any) -> SampleStream:
        """The same run as `__call__` (same arguments), as an iterator: a `StepEvent` per step, then `Finished`."""
        request = SampleRequest(*arguments, **named)
        if request.callback_on_step_end is not None:
            request.callback_on_step_end = partial(request.callback_on_step_end, self)
        return SampleStream(self.models, request)

    @arguments_of(__call__)
    def astream(self, *arguments: Any, **named: Any) -> AsyncGenerator[StepEvent | Finished, None]:
        """`stream` for asyncio: `async for event in pipe.astream(...)`; the steps run in a thread of their own.

        Wrong arguments are raised by the first event. Leaving the loop, or canceling its task, cancels the run; close
        it at once with `contextlib.aclosing`.
        """
        return events_in_thread(partial(self.stream, *arguments, **named))

    def encode_prompt(
        self, prompt: str | Sequence[str], *, video: bool = True
    ) -> tuple[PromptEmbeds, dict[str, list[TokenReport]]]:
        """Embeddings of prompts for videos or images, and what each encoder read of them."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        with own_precision(self.device):
            return encode_prompts(self.text_encoder, self.clip_text_encoder, prompts, video=video)

    def decode(self, latents: Tensor, *, vae_mode: str = "auto", output_type: str = "np") -> Any:
        """Frames of latents [N, C, T, h, w] in model space; types as in `__call__`."""
        check_argument("vae_mode", vae_mode)
        check_choice("output_type", output_type, FRAME_TYPES)
        if not self.models.has("vae"):
            raise ArgumentError("this pipeline has no vae to decode with")
        with own_precision(self.device):
            return as_output(decode_latents(self.vae, latents, vae_mode), output_type)

    def preview(self, latents: Tensor) -> Tensor:
        """A cheap picture of latents [N, C, T, h, w]: uint8 [N, T, h, w, 3], see `sampling.preview`."""
        return self.models.preview(latents)

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the models that decide a video's bits."""
        return self.models.fingerprints()
