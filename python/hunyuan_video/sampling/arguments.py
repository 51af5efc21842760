"""The arguments of a pipeline call as one object, and the run they start: a fresh state, or one that is resumed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hunyuan_video.errors import ArgumentError, IneffectiveArgument, UserError
from hunyuan_video.flow import with_first_frame
from hunyuan_video.sampling.image import first_frames
from hunyuan_video.sampling.ineffective import ineffective
from hunyuan_video.sampling.noise import draw_noise, given_generators, seeded_generators, video_seeds
from hunyuan_video.sampling.prompts import PromptEmbeds, tokens_as_json
from hunyuan_video.sampling.request import (
    MAX_VIDEOS,
    OUTPUT_TYPES,
    VAE_MODES,
    Settings,
    check_choice,
    check_count,
    check_prompts,
    resolve_settings,
)
from hunyuan_video.sampling.state import SamplingState, differences

if TYPE_CHECKING:
    from hunyuan_video.sampling.pipeline import HunyuanVideoPipeline


@dataclass
class Arguments:
    """What `HunyuanVideoPipeline.__call__` was given; its docstring says what each one means."""

    prompt: str | Sequence[str] | None = None
    negative_prompt: str | Sequence[str] | None = None
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    true_cfg_scale: float | None = None
    guidance_rescale: float | None = None
    flow_shift: float | None = None
    solver: str | None = None
    num_videos_per_prompt: int | None = None
    seed: int | Sequence[int] | None = None
    generator: torch.Generator | Sequence[torch.Generator] | None = None
    latents: Tensor | None = None
    image: Any = None
    prompt_embeds: PromptEmbeds | None = None
    negative_prompt_embeds: PromptEmbeds | None = None
    output_type: str = "np"
    vae_mode: str = "auto"
    callback_on_step_end: Callable[..., Any] | None = None
    resume_from: str | Path | SamplingState | None = None
    checkpoint_to: str | Path | None = None
    checkpoint_every: int = 1
    checkpoint_extra: dict[str, Any] | None = None
    batch_size: int = 1


def prepare(pipe: HunyuanVideoPipeline, arguments: Arguments) -> SamplingState:
    """The state before the first step that is left to do; ArgumentError or UserError if the call cannot work."""
    check_choice("output_type", arguments.output_type, OUTPUT_TYPES)
    check_choice("vae_mode", arguments.vae_mode, VAE_MODES)
    check_count("batch_size", arguments.batch_size, MAX_VIDEOS)
    check_count("checkpoint_every", arguments.checkpoint_every, 10**6)
    if arguments.output_type != "latent" and pipe.vae is None:
        raise ArgumentError(
            f"output_type {arguments.output_type!r} needs a vae and this pipeline has none; use 'latent'"
        )
    source = arguments.resume_from
    state = _fresh(pipe, arguments) if source is None else _resumed(pipe, arguments, source)
    if arguments.checkpoint_extra is not None:
        state.extra = arguments.checkpoint_extra
    return state


def _fresh(pipe: HunyuanVideoPipeline, given: Arguments) -> SamplingState:
    settings = resolve_settings(vars(given), pipe.defaults, pipe.grid)
    for line in ineffective(vars(given), settings, pipe.transformer.config.guidance_embed):
        warnings.warn(line, IneffectiveArgument, stacklevel=5)
    videos = settings.num_videos_per_prompt
    prompts = _prompts(given)
    if len(prompts) * videos > MAX_VIDEOS:
        raise ArgumentError(f"{len(prompts)} prompts x {videos} videos is more than {MAX_VIDEOS}; split the call")
    negative_prompts = _negative_prompts(pipe, given, len(prompts))
    shape = pipe.grid.latent_shape(settings.num_frames, settings.height, settings.width)
    latents, seeds = _initial_latents(given, len(prompts), videos, shape)
    image = first_frames(pipe, given.image, settings, len(prompts))
    image = None if image is None else image.repeat_interleave(videos, 0)
    embeds, tokens = _embeds(pipe, "prompt_embeds", given.prompt_embeds, prompts, settings)
    negative = None
    if settings.true_cfg_scale > 1:
        different = negative_prompts if len(set(negative_prompts)) > 1 else negative_prompts[:1]
        negative, _ = _embeds(pipe, "negative_prompt_embeds", given.negative_prompt_embeds, different, settings)
        if len(negative) not in (1, len(prompts)):
            raise ArgumentError(
                f"negative_prompt_embeds has {len(negative)} rows for {len(prompts)} prompts; give 1 or all"
            )
        negative = negative.repeated(len(prompts) // len(negative) * videos)
    return SamplingState(
        step=0,
        latents=with_first_frame(latents, image),
        solver={},
        embeds=embeds.repeated(videos),
        negative=negative,
        settings=settings,
        prompts=prompts,
        negative_prompts=negative_prompts,
        seeds=seeds,
        models=pipe.fingerprints(),
        tokens=tokens,
        image=image,
    )


def _prompts(given: Arguments) -> list[str]:
    """The prompts, empty strings where embeddings stand for them."""
    if (given.prompt is None) == (given.prompt_embeds is None):
        raise ArgumentError("give either prompt or prompt_embeds")
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        if not isinstance(value := getattr(given, name), PromptEmbeds | None):
            raise ArgumentError(f"{name} must be a PromptEmbeds(text, mask, pooled), got {type(value).__name__}")
    return check_prompts("prompt", given.prompt) if given.prompt_embeds is None else [""] * len(given.prompt_embeds)


def _negative_prompts(pipe: HunyuanVideoPipeline, given: Arguments, count: int) -> list[str]:
    if given.negative_prompt is None:
        return [pipe.defaults.negative_prompt] * count
    negatives = check_prompts("negative_prompt", given.negative_prompt)
    if len(negatives) not in (1, count):
        raise ArgumentError(f"negative_prompt has {len(negatives)} entries for {count} prompts; give one, or one each")
    return negatives * (count // len(negatives))


def _initial_latents(
    given: Arguments, prompts: int, videos: int, shape: tuple[int, int, int, int]
) -> tuple[Tensor, list[int]]:
    total = prompts * videos
    if sum(source is not None for source in (given.seed, given.generator, given.latents)) > 1:
        raise ArgumentError("give only one of seed, generator and latents")
    if given.latents is not None:
        if list(given.latents.shape) != [total, *shape]:
            raise ArgumentError(f"latents must be {[total, *shape]} for these sizes, got {list(given.latents.shape)}")
        if not given.latents.isfinite().all():
            raise ArgumentError("latents contain NaN or infinity")
        return given.latents.detach().float().cpu(), []
    if given.generator is not None:
        generators, seeds = given_generators(given.generator, total)
    else:
        seeds = video_seeds(given.seed, prompts, videos)
        generators = seeded_generators(seeds)
    return draw_noise(generators, shape), seeds


def _embeds(
    pipe: HunyuanVideoPipeline, name: str, embeds: PromptEmbeds | None, prompts: list[str], settings: Settings
) -> tuple[PromptEmbeds, dict[str, Any]]:
    if embeds is None:
        embeds, reports = pipe.encode_prompt(prompts, video=settings.num_frames > 1)
        return embeds, tokens_as_json(reports)
    config = pipe.transformer.config
    embeds.check(name, config.text_dim, config.pooled_text_dim)
    return embeds, {}


def _resumed(pipe: HunyuanVideoPipeline, given: Arguments, source: str | Path | SamplingState) -> SamplingState:
    state = replace(source) if isinstance(source, SamplingState) else SamplingState.load(source)
    for name in ("latents", "generator", "image", "prompt_embeds", "negative_prompt_embeds"):
        if getattr(given, name) is not None:
            raise ArgumentError(f"resume_from already holds what {name} would set; leave {name} out")
    for name, now in pipe.fingerprints().items():
        if state.models.get(name, now) != now:
            raise UserError(f"cannot resume with another {name}: its weights, config or dtype are not the run's")
    settings = state.settings.as_dict()
    asked = {name: value for name, value in vars(given).items() if name in settings and value is not None}
    if given.prompt is not None:
        asked["prompts"] = check_prompts("prompt", given.prompt)
    if given.negative_prompt is not None:
        asked["negative_prompts"] = _negative_prompts(pipe, given, len(state.prompts))
    if given.seed is not None:
        asked["seeds"] = video_seeds(given.seed, len(state.prompts), state.settings.num_videos_per_prompt)
    changed = differences({**vars(state), **settings}, asked)
    if changed:
        raise UserError(f"cannot resume with other settings ({changed[0]}); leave them out, or start a new run")
    return state
