"""Request of a call: every argument of a sampling run, declared once, checked before any work starts.

A field of `SampleRequest` carries what is known of its argument. From there come the checks, the flags of the command
line, the defaults of checkpoints (`SamplingDefaults`) and the settings of a run (`Settings`); `HunyuanVideoPipeline`
repeats the names in its signature, and a test holds that both agree. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hunyuan_video.errors import ArgumentError
from hunyuan_video.models.grid import Grid
from hunyuan_video.rules import ABOVE_ZERO, FINITE, Choice, Count, Flag, Levels, Method, Number, Rule, limited

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hunyuan_video.sampling.prompts import PromptEmbeds

MAX_STEPS = 1000  # timesteps the model was trained on
MAX_TOKENS = 2**21  # video tokens of one clip: 17 times a 720p clip of 129 frames
MAX_VIDEOS = 1024
DEFAULT_STRENGTH = 0.8  # diffusers' for video-to-video
NEGATIVE_PROMPT = (
    "Aerial view, aerial view, overexposed, low quality, deformation, a poor composition, "
    "bad hands, bad teeth, bad eyes, bad limbs, distortion"
)
FRAME_TYPES = ("np", "pil", "pt")
RELEASED = Grid()  # of the released model, for texts about it


@dataclass(frozen=True)
class Argument:
    """Description of an argument besides its name, Python type and default.

    rule: its bounds or choices, for numbers and words. unit: of numbers. help: one line for people.
    flag: type of its command-line flag, None without one; called: the flag's name where it is not the argument's;
    metavar: the flag's word for the value; group: of the flags.
    setting: it decides what the latents become, and is part of a run's `Settings`.
    stored: a checkpoint may say its default; released: the released model's.
    """

    rule: Rule | None = None
    unit: str = ""
    help: str = ""
    flag: type | None = None
    called: str = ""
    metavar: str | None = None
    group: str = "video"
    setting: bool = False
    stored: bool = False
    released: Any = None


def argument(default: Any = None, rule: Rule | None = None, *, kw_only: bool = True, **known: Any) -> Any:
    """A field of `SampleRequest`."""
    return field(default=default, kw_only=kw_only, metadata={"argument": Argument(rule, **known)})


def setting(rule: Rule, released: Any, help: str, unit: str = "", stored: bool = True) -> Any:
    """A field that is a setting: None in a request stands for the checkpoint's default."""
    flag = rule.type
    return argument(None, rule, unit=unit, help=help, flag=flag, setting=True, stored=stored, released=released)


def _solvers() -> tuple[str, ...]:
    from hunyuan_video.flow import SOLVERS

    return tuple(SOLVERS)


@dataclass
class SampleRequest:
    """The arguments of `HunyuanVideoPipeline.__call__`; its docstring says what each one means."""

    prompt: str | Sequence[str] | None = None
    negative_prompt: str | Sequence[str] | None = argument(
        kw_only=False,
        flag=str,
        help="what the video must not show (with --true-cfg-scale above 1)",
        stored=True,
        released=NEGATIVE_PROMPT,
    )
    image: Any = argument(
        flag=str,
        metavar="FILE",
        help="the first frame, for an image-to-video model; cut and resized to the video",
    )
    video: Any = argument(
        flag=str,
        called="start",
        metavar="FILE",
        help="a video or picture to start from in place of noise alone; cut and resized to the video",
    )
    strength: float | None = setting(
        Number(low=0.0, high=1.0, above=True, hint="1 keeps nothing of the start"),
        None,
        help=f"with --start: share of the steps that are made, the rest of the start stays; default {DEFAULT_STRENGTH}",
        stored=False,
    )
    height: int | None = setting(Count(2**16), 720, unit="pixels", help=f"pixels, a multiple of {RELEASED.multiple}")
    width: int | None = setting(Count(2**16), 1280, unit="pixels", help=f"pixels, a multiple of {RELEASED.multiple}")
    num_frames: int | None = setting(
        Count(2**16), 129, unit="frames", help=f"{RELEASED.temporal}k + 1; 1 makes an image"
    )
    num_inference_steps: int | None = setting(Count(MAX_STEPS), 50, unit="steps", help="denoising steps")
    sigmas: Sequence[float] | str | None = setting(
        Levels(MAX_STEPS),
        None,
        help="noise levels, as 1,0.9,0.6,0.3: in place of --num-inference-steps and --flow-shift",
        stored=False,
    )
    guidance_scale: float | None = setting(
        Number(low=0.0, hint="the released model was distilled for 1 to 8"),
        6.0,
        help="embedded guidance of a guidance-distilled model",
    )
    true_cfg_scale: float | None = setting(
        Number(low=1.0, hint="1.0 switches classifier-free guidance off"),
        1.0,
        help="classifier-free guidance; 1 is off, costs a second pass",
    )
    guidance_rescale: float | None = setting(
        Number(low=0.0, high=1.0, hint="0.0 switches it off"),
        0.0,
        help="0 to 1; tames the contrast of large --true-cfg-scale",
    )
    flow_shift: float | None = setting(
        Number(low=0.0, above=True, hint="the paper uses 7 at 50 steps, 17 below 20"),
        None,  # the paper's for the number of steps
        help="timestep shift; larger spends more steps on the layout",
    )
    solver: str | None = setting(
        Choice(_solvers), "euler", help="euler; heun or ab2 (second order); lcm (for models distilled to it)"
    )
    cache: str | None = setting(
        Method("off", (("first_block", 0.06), ("linear", 0.06)), low=0.0, high=1.0, above=True),
        None,
        help="reuse steps that change little: off (default), first_block[:THRESHOLD], linear[:THRESHOLD]; approximate",
        stored=False,
    )
    attention: str | None = setting(
        Method("dense", (("sliding_tile", 0.3),), low=0.0, high=1.0),
        None,
        help="dense (default), or sliding_tile[:SHARE]: near tiles only, after this share of dense steps; approximate",
        stored=False,
    )
    riflex: int | None = setting(
        Count(64),
        None,
        help="lower this frequency in time, where clips longer than the trained ones repeat; 4 for the released model",
        stored=False,
    )
    num_videos_per_prompt: int | None = setting(
        Count(MAX_VIDEOS), 1, unit="videos", help="video i uses seed + i", stored=False
    )
    seed: int | Sequence[int] | None = argument(flag=int, help="same seed, same video; default random, and printed")
    generator: torch.Generator | Sequence[torch.Generator] | None = argument()
    latents: Tensor | None = argument()  # [N, C, T, h, w]
    prompt_embeds: PromptEmbeds | None = argument()
    negative_prompt_embeds: PromptEmbeds | None = argument()
    output_type: str = argument("np", Choice((*FRAME_TYPES, "latent")))
    vae_mode: str = argument(
        "auto",
        Choice(("auto", "plain", "tiled", "exact")),
        flag=str,
        group="output",
        help="how to decode; default auto",
    )
    callback_on_step_end: Callable[..., Any] | None = argument()
    resume_from: Any = argument()  # a path, or a SamplingState, which rests on this file
    checkpoint_to: str | Path | None = argument(
        flag=str, metavar="STATE", help="state file for --resume; kept when the run is done"
    )
    checkpoint_every: int = argument(
        1, Count(10**6), flag=int, metavar="N", unit="steps", help="save the state every N steps"
    )
    checkpoint_extra: dict[str, Any] | None = argument()
    batch_size: int = argument(1, Count(MAX_VIDEOS), unit="videos")
    progress: bool = argument(False, Flag())

    def check(self) -> None:
        """ArgumentError for what no pipeline could do; the settings are checked by `resolve_settings`."""
        for name, known in ARGUMENTS.items():
            if not known.setting:
                check_argument(name, getattr(self, name))


ARGUMENTS: dict[str, Argument] = {f.name: f.metadata.get("argument", Argument()) for f in fields(SampleRequest)}


def flag_of(name: str) -> str:
    """An argument's flag on the command line: num_frames -> --num-frames; video -> --start, as its argument says."""
    called = ARGUMENTS[name].called if name in ARGUMENTS else ""
    return f"--{(called or name).replace('_', '-')}"


def check_argument(name: str, value: Any, shown: str = "") -> Any:
    """A value that its argument may have; ArgumentError otherwise. shown: the name in the message."""
    rule = ARGUMENTS[name].rule
    return value if rule is None else rule.check(shown or name, value)


SETTINGS: dict[str, Rule] = {name: known.rule for name, known in ARGUMENTS.items() if known.setting and known.rule}
STORED = {name: known for name, known in ARGUMENTS.items() if known.stored}


def _stored_field(name: str, known: Argument) -> tuple[str, Any, Any]:
    kind: Any = known.rule.type if known.rule else str
    return name, kind | None if known.released is None else kind, limited(known.released, known.rule or FINITE)


_Stored: Any = make_dataclass(
    "Stored", [*starmap(_stored_field, STORED.items()), ("fps", float, limited(24, ABOVE_ZERO))], frozen=True
)


class SamplingDefaults(_Stored):
    """Sampling values of a checkpoint for what a call leaves out, and the frame rate of its videos.

    The defaults of this class are the released 13B model's; a checkpoint's sampling.json overrides them.
    """


_Resolved: Any = make_dataclass("Resolved", [(name, rule.type) for name, rule in SETTINGS.items()], frozen=True)


class Settings(_Resolved):
    """Every number that decides what the latents of a run become, besides prompts, noise, a start and weights.

    strength: None without a start. sigmas: None for those of num_inference_steps and flow_shift; where they were given,
    they end in 0.0, there are num_inference_steps of them before it, and flow_shift is None. cache, attention: None is
    exact; else as "first_block:0.06" and "sliding_tile:0.3".
    """

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def steps(self) -> int:
        """Steps to run: with a start, the last of the schedule (the rule of diffusers' video-to-video pipelines)."""
        return steps_to_run(self.num_inference_steps, self.strength)


def steps_to_run(steps: int, strength: float | None) -> int:
    """Number of a schedule's last steps that are run on a start; all without one."""
    return steps if strength is None else min(int(steps * strength), steps)


def as_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that give such settings: without what was not used, or followed from another."""
    follows = ("num_inference_steps", "flow_shift") if settings.get("sigmas") is not None else ()
    return {name: value for name, value in settings.items() if value is not None and name not in follows}


def resolve_settings(given: Mapping[str, Any], defaults: SamplingDefaults, grid: Grid) -> Settings:
    """Fills what was left out (None) from the checkpoint's defaults and checks the result; ArgumentError otherwise."""
    given = {**given, **_schedule_arguments(given)}
    values = {name: getattr(defaults, name, ARGUMENTS[name].released) for name in SETTINGS}
    values |= {name: given[name] for name in SETTINGS if given.get(name) is not None}
    counts = [name for name, rule in SETTINGS.items() if isinstance(rule, Count)]
    for name in counts:
        if values[name] is not None or name in STORED:
            values[name] = check_argument(name, values[name])
    check_sizes(values["num_frames"], values["height"], values["width"], grid)
    if values["sigmas"] is not None:
        values["flow_shift"] = None
    elif values["flow_shift"] is None:
        from hunyuan_video.flow import default_shift

        values["flow_shift"] = default_shift(values["num_inference_steps"])
    for name in SETTINGS:
        if name not in counts and values[name] is not None:
            values[name] = check_argument(name, values[name])
    _check_strength(values["num_inference_steps"], values["strength"])
    return Settings(**values)


def _schedule_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values that follow from own noise levels or a start; ArgumentError where they contradict other arguments."""
    following: dict[str, Any] = {}
    if given.get("sigmas") is not None:
        for name in ("num_inference_steps", "flow_shift"):
            if given.get(name) is not None:
                raise ArgumentError(f"sigmas are the noise levels themselves; give either them or {name}")
        following["sigmas"] = check_argument("sigmas", given["sigmas"])
        following["num_inference_steps"] = len(following["sigmas"]) - 1
    if given.get("video") is not None and given.get("strength") is None:
        following["strength"] = DEFAULT_STRENGTH
    if given.get("video") is None and given.get("strength") is not None:
        raise ArgumentError(
            "strength says how much of a start is made anew, and none was given; give one with video= (--start FILE)"
        )
    return following


def _check_strength(steps: int, strength: float | None) -> None:
    if steps_to_run(steps, strength) < 1:
        raise ArgumentError(
            f"strength {strength:g} of {steps} steps leaves none to run; give at least {1 / steps:.3g}, or more steps"
        )


def check_prompts(name: str, value: str | Sequence[str] | None) -> list[str]:
    """A prompt or list of prompts as a list of stripped strings; ArgumentError for empty ones and other types."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)) or not value:
        raise ArgumentError(f"{name} must be a sentence or a list of sentences, got {value!r}")
    for prompt in value:
        if not isinstance(prompt, str):
            raise ArgumentError(f"{name} must be text, got {type(prompt).__name__} {prompt!r}")
    stripped = [prompt.strip() for prompt in value]
    if name == "prompt" and not all(stripped):
        raise ArgumentError("prompt is empty; say in a sentence what the video shows")
    return stripped


def check_sizes(num_frames: int, height: int, width: int, grid: Grid) -> None:
    """ArgumentError, with the nearest sizes that work, unless the VAE and the patches divide them evenly."""
    for name, value in (("height", height), ("width", width)):
        if value % grid.multiple:
            nearest = nearest_valid(value, grid.multiple, 0, least=grid.multiple)
            raise ArgumentError(f"{name} must be a multiple of {grid.multiple} pixels, got {value}; nearest: {nearest}")
    if (num_frames - 1) % grid.temporal:
        nearest = nearest_valid(num_frames, grid.temporal, 1, least=1)
        raise ArgumentError(f"num_frames must be {grid.temporal}k + 1, got {num_frames}; nearest: {nearest}")
    if (tokens := grid.tokens(num_frames, height, width)) > MAX_TOKENS:
        raise ArgumentError(
            f"{num_frames} frames of {height}x{width} are {tokens} video tokens, more than {MAX_TOKENS}; "
            "lower num_frames, height or width"
        )


def nearest_valid(value: int, step: int, offset: int, least: int) -> str:
    """The valid numbers step * k + offset on both sides of `value`, as "13 or 17"."""
    below = value - (value - offset) % step
    return f"{below} or {below + step}" if below >= least else str(below + step)
