"""Job of one `sample` command: prompts, arguments, output names. As JSON it rides in the state for --resume."""

from __future__ import annotations

import argparse
import random
import re
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.files import read_list
from hunyuan_video.rules import check_field_types
from hunyuan_video.sampling.request import ARGUMENTS, SETTINGS, as_arguments, flag_of

LATENTS = ".safetensors"
RUN_FLAGS = tuple(name for name, known in ARGUMENTS.items() if known.flag and known.group == "video")
# Those that go to the pipeline as they are; of the others a job makes something of its own.
PIPELINE_OPTIONS = tuple(name for name in RUN_FLAGS if name not in ("seed", "checkpoint_to", "checkpoint_every"))


@dataclass
class Job:
    """The i-th prompt makes videos i * num_videos_per_prompt + 1 and following."""

    prompts: list[str]
    arguments: dict[str, Any]  # of the pipeline, those that were given
    outputs: list[str]  # one name per wanted format, before numbering
    state: str  # where the state file is written
    keep_state: bool  # the user named it, so it stays
    seed: int = 0
    model: str = "tiny"
    dtype: str | None = None
    adapter: str | None = None
    fps: float | None = None  # None until the checkpoint's is known
    contact_sheet: bool = False
    vae_mode: str = "auto"
    precision: str | None = None
    memory: str = "auto"
    device_memory: str | None = None
    host_memory: str | None = None
    fit: bool = False
    asked: list[int] | None = None  # with fit: frames, height and width of the outputs, which are made larger
    index: int = 0  # prompts that are finished

    @property
    def videos_per_prompt(self) -> int:
        return self.arguments.get("num_videos_per_prompt") or 1

    @property
    def latents_only(self) -> bool:
        return all(Path(name).suffix == LATENTS for name in self.outputs)

    def paths(self, index: int, video: int) -> list[str]:
        """The output names of one video of prompt `index`, numbered where the job makes more than one video."""
        if len(self.prompts) * self.videos_per_prompt == 1:
            return self.outputs
        number = index * self.videos_per_prompt + video + 1
        return [numbered(name, number) for name in self.outputs]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def new_job(args: argparse.Namespace) -> Job:
    """The job of a command line without --resume."""
    prompts = read_prompts(args)
    seed = random.SystemRandom().randrange(2**31) if args.seed is None else args.seed
    given = {name: getattr(args, name) for name in PIPELINE_OPTIONS if getattr(args, name) is not None}
    if args.fast:
        given = fast_arguments(args.model or Job.model, args.adapter, given)
    outputs = args.output or [default_output(args, prompts[0], seed)]
    state = args.checkpoint_to or str(free_state_path(outputs[0]))
    job = Job(prompts, given, outputs, state, keep_state=args.checkpoint_to is not None, seed=seed, fit=args.fit)
    apply_options(job, args)
    return job


def fast_arguments(model: str, adapter: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of --fast, those that were given in front; prints what was chosen and how it was measured."""
    from hunyuan_video.checkpoints.adapters import fast_settings
    from hunyuan_video.checkpoints.layout import checkpoint_folder
    from hunyuan_video.checkpoints.pipeline import read_sampling_json

    fast = fast_settings(read_sampling_json(checkpoint_folder(model)), adapter)
    if fast is None:
        raise ArgumentError(
            f"--fast: no faster settings were measured for {model} with this adapter; choose them, "
            "such as --cache first_block:0.06, which is published for the released model at 30 to 50 steps"
        )
    chosen = {name: value for name, value in fast.items() if name != "measured"}
    if not set(chosen) <= SETTINGS.keys():
        raise UserError(f"{model}: its sampling.json has a wrong entry 'fast'; restore the file")
    if given.get("sigmas") is not None:
        chosen = {name: value for name, value in chosen.items() if name not in ("num_inference_steps", "flow_shift")}
    used = {name: given.get(name, value) for name, value in chosen.items()}
    shown = ", ".join(f"{flag_of(name)} {value}" for name, value in used.items()) or "the adapter's own settings"
    print(f"fast: {shown} ({fast.get('measured', 'not measured')})", file=sys.stderr)
    return {**chosen, **given}


def resumed_job(args: argparse.Namespace) -> Job:
    """The job inside a state file; model and output options of this command line replace the job's."""
    from hunyuan_video.sampling.resume_state import SamplingState

    for name in ("fast", "fit"):
        if getattr(args, name):
            raise ArgumentError(f"--{name} decides how a run begins, and --resume goes on as it began; leave it out")
    if args.prompt is not None or args.prompt_file is not None:
        raise ArgumentError("--resume continues with the prompt of the state file; leave PROMPT and --prompt-file out")
    state = SamplingState.load(args.resume)
    if "job" in state.extra:
        job = _saved_job(state.extra["job"], args.resume)
    elif args.output:  # a state that Python code saved
        given = {**as_arguments(state.settings.as_dict()), "num_videos_per_prompt": len(state.latents)}  # all prompts
        given.pop("strength", None)  # the start is in the latents
        job = Job([""], given, args.output, args.resume, keep_state=True)
    else:
        raise ArgumentError(f"{args.resume} was not written by this command; say with -o where the video goes")
    job.outputs = args.output or job.outputs
    apply_options(job, args)
    return job


def _saved_job(saved: Any, path: str) -> Job:
    """The job of a state file."""
    try:
        job = Job(**{**saved, "state": path})
        check_field_types(job)
    except TypeError as error:
        raise UserError(f"{path} is damaged: its job is wrong ({error}); start the run without resuming") from None
    unknown = sorted(set(job.arguments) - set(PIPELINE_OPTIONS))
    if unknown or not 0 <= job.index < len(job.prompts) or not job.outputs:
        wrong = f"it has no argument {unknown[0]!r}" if unknown else "it has nothing to do"
        raise UserError(f"{path} is damaged: its job is wrong ({wrong}); start the run without resuming")
    return job


def apply_options(job: Job, args: argparse.Namespace) -> None:
    """Puts the options that were given into the job."""
    for name in ("model", "adapter", "dtype", "fps", "vae_mode", "precision", "memory", "device_memory", "host_memory"):
        if getattr(args, name) is not None:
            setattr(job, name, getattr(args, name))
    job.contact_sheet |= args.contact_sheet


def read_prompts(args: argparse.Namespace) -> list[str]:
    """The prompt of the command line, or the lines of --prompt-file (blank lines and lines with # left out)."""
    if (args.prompt is None) == (args.prompt_file is None):
        raise ArgumentError("give a PROMPT, or --prompt-file with one prompt per line, or --resume")
    if args.prompt is not None:
        if not args.prompt.strip():
            raise ArgumentError("the prompt is empty; say in a sentence what the video shows")
        return [args.prompt.strip()]
    prompts = [line for _, line in read_list(Path(args.prompt_file), "give --prompt-file a file with a prompt a line")]
    if not prompts:
        raise ArgumentError(f"--prompt-file {args.prompt_file} holds no prompt; write one per line")
    return prompts


def default_output(args: argparse.Namespace, prompt: str, seed: int) -> str:
    """A name made of the prompt (or of the prompt file's name) and the seed, in the current folder."""
    text = Path(args.prompt_file).stem if args.prompt_file else prompt
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "video"
    return f"{words}-seed{seed}{'.png' if args.num_frames == 1 else '.mp4'}"


def numbered(name: str, number: int) -> str:
    """out.mp4 -> out-003.mp4; frames/ -> frames-003/."""
    if name.endswith("/"):
        return f"{name.rstrip('/')}-{number:03d}/"
    path = Path(name)
    return str(path.with_name(f"{path.stem}-{number:03d}{path.suffix}"))


def free_state_path(output: str) -> Path:
    """A name for the state file beside the output; the state of an earlier interrupted run is never overwritten."""
    base = Path(output.rstrip("/"))
    base = base.with_suffix("") if base.suffix else base
    path, number = base.with_name(f"{base.name}.state.safetensors"), 2
    while path.exists():
        path, number = base.with_name(f"{base.name}.state-{number}.safetensors"), number + 1
    return path


def resume_command(state: str | Path) -> str:
    return shlex.join(["hunyuan-video", "sample", "--resume", str(state)])
