"""From a request to the state before its first step that is left to do: a fresh run, or one that is resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from hunyuan_video.errors import ApproximateMode, ArgumentError, IneffectiveArgument, UserError, notify
from hunyuan_video.flow import with_first_frame
from hunyuan_video.forks import begin_work
from hunyuan_video.sampling.approximate import approximate_line, check_approximate, check_ranks
from hunyuan_video.sampling.image import first_frames
from hunyuan_video.sampling.ineffective import ineffective
from hunyuan_video.sampling.models import LoadedModels
from hunyuan_video.sampling.noise import draw_noise, given_generators, seeded_generators, video_seeds
from hunyuan_video.sampling.prompts import PromptEmbeds, encode_prompts, tokens_as_json
from hunyuan_video.sampling.request import (
    MAX_VIDEOS,
    SampleRequest,
    Settings,
    check_argument,
    check_prompts,
    resolve_settings,
)
from hunyuan_video.sampling.resume_state import SamplingState, differences
from hunyuan_video.sampling.start import from_start


def prepare(models: LoadedModels, request: SampleRequest) -> SamplingState:
    """The state before the first step that is left to do; ArgumentError or UserError if the call cannot work."""
    request.check()
    begin_work()
    if request.output_type != "latent" and not models.has("vae"):
        raise ArgumentError(f"output_type {request.output_type!r} needs a vae and this pipeline has none; use 'latent'")
    source = request.resume_from
    state = _fresh(models, request) if source is None else _resumed(models, request, source)
    check_ranks(models, state.settings)
    if request.checkpoint_extra is not None:
        state.extra = request.checkpoint_extra
    if line := approximate_line(state.settings):
        notify(line, ApproximateMode)
    return state


def _fresh(models: LoadedModels, request: SampleRequest) -> SamplingState:
    settings = resolve_settings(vars(request), models.defaults, models.grid)
    check_approximate(models, settings)
    for line in ineffective(vars(request), settings, models.transformer.config.guidance_embed):
        notify(line, IneffectiveArgument)
    videos = settings.num_videos_per_prompt
    prompts = _prompts(request)
    if len(prompts) * videos > MAX_VIDEOS:
        raise ArgumentError(f"{len(prompts)} prompts x {videos} videos is more than {MAX_VIDEOS}; split the call")
    negative_prompts = _negative_prompts(models, request, len(prompts))
    shape = models.grid.latent_shape(settings.num_frames, settings.height, settings.width)
    latents, seeds = _initial_latents(request, len(prompts), videos, shape)
    latents = from_start(models, request.video, settings, latents)
    image = first_frames(models, request.image, settings, len(prompts))
    image = None if image is None else image.repeat_interleave(videos, 0)
    embeds, tokens = _embeds(models, "prompt_embeds", request.prompt_embeds, prompts, settings)
    negative = None
    if settings.true_cfg_scale > 1:
        different = negative_prompts if len(set(negative_prompts)) > 1 else negative_prompts[:1]
        negative, _ = _embeds(models, "negative_prompt_embeds", request.negative_prompt_embeds, different, settings)
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
        models=models.fingerprints(),
        tokens=tokens,
        image=image,
    )


def _prompts(request: SampleRequest) -> list[str]:
    """The prompts, empty strings where embeddings stand for them."""
    if (request.prompt is None) == (request.prompt_embeds is None):
        raise ArgumentError("give either prompt or prompt_embeds")
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        if not isinstance(value := getattr(request, name), PromptEmbeds | None):
            raise ArgumentError(f"{name} must be a PromptEmbeds(text, mask, pooled), got {type(value).__name__}")
    embeds = request.prompt_embeds
    return check_prompts("prompt", request.prompt) if embeds is None else [""] * len(embeds)


def _negative_prompts(models: LoadedModels, request: SampleRequest, count: int) -> list[str]:
    if request.negative_prompt is None:
        return [models.defaults.negative_prompt] * count
    negatives = check_prompts("negative_prompt", request.negative_prompt)
    if len(negatives) not in (1, count):
        raise ArgumentError(f"negative_prompt has {len(negatives)} entries for {count} prompts; give one, or one each")
    return negatives * (count // len(negatives))


def _initial_latents(
    request: SampleRequest, prompts: int, videos: int, shape: tuple[int, int, int, int]
) -> tuple[Tensor, list[int]]:
    total = prompts * videos
    if sum(source is not None for source in (request.seed, request.generator, request.latents)) > 1:
        raise ArgumentError("give only one of seed, generator and latents")
    if request.latents is not None:
        if list(request.latents.shape) != [total, *shape]:
            raise ArgumentError(f"latents must be {[total, *shape]} for these sizes, got {list(request.latents.shape)}")
        if not request.latents.isfinite().all():
            raise ArgumentError("latents contain NaN or infinity")
        return request.latents.detach().float().cpu(), []
    if request.generator is not None:
        generators, seeds = given_generators(request.generator, total)
    else:
        seeds = video_seeds(request.seed, prompts, videos)
        generators = seeded_generators(seeds)
    return draw_noise(generators, shape), seeds


def _embeds(
    models: LoadedModels, name: str, embeds: PromptEmbeds | None, prompts: list[str], settings: Settings
) -> tuple[PromptEmbeds, dict[str, Any]]:
    if embeds is None:
        encoders = models.text_encoder, models.clip_text_encoder
        embeds, reports = encode_prompts(*encoders, prompts, video=settings.num_frames > 1)
        return embeds, tokens_as_json(reports)
    config = models.transformer.config
    embeds.check(name, config.text_dim, config.pooled_text_dim)
    return embeds, {}


def _resumed(models: LoadedModels, request: SampleRequest, source: str | Path | SamplingState) -> SamplingState:
    state = replace(source) if isinstance(source, SamplingState) else SamplingState.load(source)
    for name in ("latents", "generator", "image", "video", "prompt_embeds", "negative_prompt_embeds"):
        if getattr(request, name) is not None:
            raise ArgumentError(f"resume_from already holds what {name} would set; leave {name} out")
    for name, now in models.fingerprints().items():
        if state.models.get(name, now) != now:
            raise UserError(f"cannot resume with another {name}: its weights, config or dtype are not the run's")
    settings = state.settings.as_dict()
    requested = {name: check_argument(name, value) for name in settings if (value := vars(request)[name]) is not None}
    if request.prompt is not None:
        requested["prompts"] = check_prompts("prompt", request.prompt)
    if request.negative_prompt is not None:
        requested["negative_prompts"] = _negative_prompts(models, request, len(state.prompts))
    if request.seed is not None:
        requested["seeds"] = video_seeds(request.seed, len(state.prompts), state.settings.num_videos_per_prompt)
    changed = differences({**vars(state), **settings}, requested)
    if changed:
        raise UserError(f"cannot resume with other settings ({changed[0]}); leave them out, or start a new run")
    return state
