"""`hunyuan-video sample PROMPT`: videos from sentences; killed runs continue with --resume."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hunyuan_video.cli.job import (
    LATENTS,
    PIPELINE_OPTIONS,
    RUN_FLAGS,
    Job,
    new_job,
    resume_command,
    resumed_job,
)
from hunyuan_video.cli.options import (
    add_memory_options,
    add_model_options,
    add_output_options,
    add_request_flags,
    chosen_device,
    torch_dtype,
)
from hunyuan_video.cli.progress import Progress
from hunyuan_video.cli.ranks import join, one_voice, rank_count
from hunyuan_video.cli.start import collector_paused
from hunyuan_video.errors import ArgumentError, Interruption, UserError

if TYPE_CHECKING:
    from hunyuan_video.planning.run_plan import RunPlan
    from hunyuan_video.sampling import HunyuanVideoPipeline, SampleOutput
    from hunyuan_video.sampling.run import SampleStream


TRAINED_SIZES = (
    "Sizes that the released model's card recommends, height x width, with 129 frames: 720x1280, 1280x720, 1104x832, "
    "832x1104, 960x960; smaller ones: 544x960, 960x544, 832x624, 624x832, 720x720."
)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("sample", help="make a video (or an image) from a sentence", epilog=TRAINED_SIZES)
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what the video shows")
    parser.add_argument("--prompt-file", metavar="FILE", help="one prompt per line; outputs are numbered")
    parser.add_argument("--resume", metavar="STATE", help="continue an interrupted run from its state file")
    parser.add_argument("--words", action="store_true", help="list the words that the checkpoint knows, and stop")
    parser.add_argument(
        "--strict", action="store_true", help="refuse prompts with words that the checkpoint does not know"
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="the settings that were measured to keep the checkpoint's quality in less time",
    )
    parser.add_argument(
        "--fit",
        action="store_true",
        help="any height, width and number of frames: made in the next larger size, and cropped",
    )
    run_group = parser.add_argument_group("the video (defaults: what the checkpoint was made for)")
    add_request_flags(run_group, RUN_FLAGS)
    add_output_options(parser)
    add_memory_options(add_model_options(parser, adapter=True))
    return parser


def run(args: argparse.Namespace) -> int:
    if args.words:
        return list_words(args.model or Job.model)
    jobs: list[Job] = []
    with one_voice(args.command, lambda: kept_state(jobs)):
        with collector_paused():
            job, pipe = prepare(args)
        jobs.append(job)
        resume_from = args.resume
        while job.index < len(job.prompts):
            sample_prompt(pipe, job, args, resume_from)
            resume_from = None
            job.index += 1
        if not job.keep_state and is_first(pipe):
            Path(job.state).unlink(missing_ok=True)
    return 0


def is_first(pipe: HunyuanVideoPipeline) -> bool:
    """True in the process that writes: alone, or the first rank."""
    return pipe.models.team is None or pipe.models.team.first


def kept_state(jobs: list[Job]) -> str:
    """The way on for a run that was cut off, in words."""
    if not jobs or not Path(jobs[0].state).exists():
        return "nothing was saved"
    return f"continue with: {resume_command(jobs[0].state)}"


def prepare(args: argparse.Namespace) -> tuple[Job, HunyuanVideoPipeline]:
    """The checked job, and the models that do it; on several ranks the first one checks."""
    from hunyuan_video.sampling import HunyuanVideoPipeline
    from hunyuan_video.sampling.opening import open_models

    device = chosen_device(args)
    team = join(args, device)
    check = partial(checked_job, args, device)
    job, plan = check() if team is None else team.from_first(check)
    dtype = torch_dtype(job.dtype)
    encoders = ("text_encoder", "clip_text_encoder") if team is None or team.first else ()
    parts = ("transformer", *encoders, *(("vae",) if needs_vae(job) else ()))
    models = open_models(
        job.model, dtype=dtype, device=device, parts=parts, adapter=job.adapter, precision=job.precision,
        memory=job.memory, device_memory=job.device_memory, host_memory=job.host_memory, plan=plan,
    )  # fmt: skip
    if team is not None:
        models.share(team)
    return job, HunyuanVideoPipeline.over(models)


def needs_vae(job: Job) -> bool:
    return not job.latents_only or not {"image", "video"}.isdisjoint(job.arguments)


def checked_job(args: argparse.Namespace, device: Any) -> tuple[Job, RunPlan | None]:
    """The job of a command line, with its plan."""
    from hunyuan_video.media.images import read_image
    from hunyuan_video.sampling.request import check_argument

    job = new_job(args) if args.resume is None else resumed_job(args)
    if args.checkpoint_every is not None:
        check_argument("checkpoint_every", args.checkpoint_every, "--checkpoint-every")
    for line in ineffective_options(job):
        print(f"note: {line}", file=sys.stderr)
    check_words(job, strict=args.strict)
    check_before_loading(job, resumed=args.resume is not None)
    if args.image is not None:
        read_image(args.image)
    return job, plan_of(job, device, torch_dtype(job.dtype))


def plan_of(job: Job, device: Any, dtype: Any) -> RunPlan | None:
    """The plan of a job, told in three lines; None where limits are not asked for and memory cannot matter.

    UserError where nothing fits, naming the nearest size that does.
    """
    from hunyuan_video.planning.run_plan import plan_lines
    from hunyuan_video.sampling.opening import refuse
    from hunyuan_video.sampling.planned import matters, plan_sampling

    limits = job.device_memory, job.host_memory, job.precision
    if limits == (None, None, None) and job.memory == "auto" and not matters(job.model, job.arguments, device):
        return None
    plan = plan_sampling(
        job.model, job.arguments, device=device, dtype=dtype, precision=job.precision, memory=job.memory,
        device_memory=job.device_memory, host_memory=job.host_memory, adapter=job.adapter, vae_mode=job.vae_mode,
        output_type="latent" if job.latents_only else "np", ranks=rank_count(),
    )  # fmt: skip
    refuse(plan)
    for line in (*plan_lines(plan), *plan.notes):
        print(line, file=sys.stderr)
    return plan


def list_words(model: str) -> int:
    """Prints the vocabulary of a checkpoint that was trained on a toyworld."""
    from hunyuan_video.checkpoints.layout import checkpoint_folder
    from hunyuan_video.checkpoints.pipeline import read_sampling_json
    from hunyuan_video.data.toyworld import WORLDS
    from hunyuan_video.data.toyworld.known import word_table

    world = read_sampling_json(checkpoint_folder(model)).get("world")
    if world not in WORLDS:
        raise UserError(f"{model} was not trained on a toyworld: it has no list of words")
    print("\n".join(word_table(WORLDS[world])))
    return 0


def check_words(job: Job, *, strict: bool) -> None:
    """Says which words of the prompts a toyworld's checkpoint does not know; ArgumentError for them if strict."""
    from hunyuan_video.checkpoints.layout import checkpoint_folder
    from hunyuan_video.checkpoints.pipeline import read_sampling_json

    world = read_sampling_json(checkpoint_folder(job.model)).get("world")
    if not world:
        return
    from hunyuan_video.data.toyworld import WORLDS
    from hunyuan_video.data.toyworld.known import prompt_notes

    for prompt in job.prompts if world in WORLDS else ():
        lines = prompt_notes(prompt, WORLDS[world])
        if lines and strict:
            raise ArgumentError(f"{'; '.join(lines)}; `hunyuan-video sample --words` lists what it knows")
        for line in lines:
            print(f"note: {line}", file=sys.stderr)


def ineffective_options(job: Job) -> list[str]:
    """A line for every output option that none of the outputs shows."""
    kinds = {Path(output).suffix or "frames" for output in job.outputs}
    lines = []
    if job.contact_sheet and ".png" not in kinds:
        lines.append("--contact-sheet has no effect without a .png output")
    if job.fps is not None and kinds <= {".png", "frames", LATENTS}:
        lines.append("--fps has no effect on images and latents")
    return lines


def check_before_loading(job: Job, resumed: bool = False) -> None:
    """Finds wrong settings and unwritable outputs before the minutes that loading a large model takes."""
    from hunyuan_video.checkpoints.adapters import adapter_notes
    from hunyuan_video.checkpoints.configs import read_grid
    from hunyuan_video.checkpoints.layout import checkpoint_folder
    from hunyuan_video.checkpoints.pipeline import read_sampling_json
    from hunyuan_video.files import check_writable
    from hunyuan_video.media.write import check_output
    from hunyuan_video.rules import check_number
    from hunyuan_video.sampling.models import is_fast_hunyuan, read_defaults
    from hunyuan_video.sampling.noise import video_seeds
    from hunyuan_video.sampling.prompts import check_lengths
    from hunyuan_video.sampling.request import resolve_settings

    folder = checkpoint_folder(job.model)
    for line in adapter_notes(folder, read_sampling_json(folder), job.adapter):
        print(f"note: {line}", file=sys.stderr)
    defaults = read_defaults(folder, job.adapter)
    if is_fast_hunyuan(folder) and not read_sampling_json(folder):
        print("note: FastHunyuan by its name: 6 steps with a shift of 17 where nothing else is said", file=sys.stderr)
    grid = read_grid(folder)
    if job.fit and job.asked is None:
        fit(job, defaults, grid)
    settings = resolve_settings(job.arguments, defaults, grid)
    video_seeds(job.seed, len(job.prompts), job.videos_per_prompt)
    job.fps = float(defaults.fps if job.fps is None else job.fps)
    check_number("--fps", job.fps, low=0, above=True, high=1000)
    for index in range(len(job.prompts)):
        for video in range(job.videos_per_prompt):
            for path in job.paths(index, video):
                if Path(path).suffix == LATENTS:
                    check_writable(path)
                else:
                    frames, height, width = job.asked or (settings.num_frames, settings.height, settings.width)
                    size = {"height": height, "width": width}
                    check_output(path, frames, contact_sheet=job.contact_sheet, fps=job.fps, **size)
    check_lengths(folder, job.prompts, video=settings.num_frames > 1, first=job.index + resumed)
    later_prompts = len(job.prompts) - job.index > 1
    if job.arguments.get("video") is not None and (later_prompts or not resumed):
        from hunyuan_video.sampling.start import read_start

        read_start(job.arguments["video"], settings, grid, defaults.fps)
    check_writable(job.state)


def fit(job: Job, defaults: Any, grid: Any) -> None:
    """Makes the sizes of a job those that the model can make, and keeps the ones that were asked for."""
    from hunyuan_video.sampling.request import check_argument

    names = ("num_frames", "height", "width")
    asked = [check_argument(name, job.arguments.get(name) or getattr(defaults, name)) for name in names]
    job.asked = asked
    job.arguments |= dict(zip(names, grid.covering(*asked), strict=True))


def cropped(frames: Any, asked: list[int] | None) -> Any:  # uint8 [F, H, W, 3]
    """The first frames and the middle of a video of which less was asked for."""
    if asked is None:
        return frames
    count, height, width = asked
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return frames[:count, top : top + height, left : left + width]


def sample_prompt(pipe: HunyuanVideoPipeline, job: Job, args: argparse.Namespace, resume_from: str | None) -> None:
    """Samples prompt job.index and writes its outputs."""
    output_type = "latent" if job.latents_only else "np"
    common: dict[str, Any] = {
        "vae_mode": job.vae_mode,
        "output_type": output_type,
        "checkpoint_to": job.state,
        "checkpoint_every": args.checkpoint_every or 1,
        "checkpoint_extra": {"job": job.as_dict()},
    }
    if resume_from is None:
        stream = pipe.stream(job.prompts[job.index], seed=job.seed, **job.arguments, **common)
        report_tokens(stream)
        if args.seed is None and job.index == 0:
            print(f"seed {job.seed}", file=sys.stderr)
        if job.index == 0:
            print(f"if this run is cut off, continue with: {resume_command(job.state)}", file=sys.stderr)
    else:
        requested = {name: getattr(args, name) for name in (*PIPELINE_OPTIONS, "seed")}
        stream = pipe.stream(resume_from=resume_from, **requested, **common)
    try:
        output = drain(stream, job)
        if is_first(pipe):
            write_outputs(pipe, job, stream, output)
    except KeyboardInterrupt as error:
        where = f"interrupted at step {stream.state.step} of {stream.state.total}"
        if not Path(job.state).exists():
            raise Interruption(f"{where}; nothing was saved") from error
        raise Interruption(f"{where}; continue with: {resume_command(job.state)}") from error
    except UserError as error:
        if not stream.state.complete or stream.saved_step != stream.state.step:
            if stream.state.step == 0 and not job.keep_state:  # nothing to continue
                Path(job.state).unlink(missing_ok=True)
            raise
        decode = f"hunyuan-video decode {job.state} -o {job.outputs[0]}"
        raise UserError(f"{error}; the latents are safe, when that is done: {decode}") from error


def report_tokens(stream: SampleStream) -> None:
    """Tells which words no encoder will see."""
    from hunyuan_video.sampling.prompts import dropped_lines, tokens_from_json

    for line in dropped_lines(tokens_from_json(stream.state.tokens)):
        print(f"note: {line}", file=sys.stderr)


def drain(stream: SampleStream, job: Job) -> SampleOutput:
    """Runs a stream to its end with progress."""
    from hunyuan_video.sampling import Finished

    count = f" {job.index + 1}/{len(job.prompts)}" if len(job.prompts) > 1 else ""
    progress = Progress(f"sampling{count}", stream.state.total, stream.state.step)
    try:
        for event in stream:
            if isinstance(event, Finished):
                return event.output
            progress.update(event.step)
            if event.step == event.total:
                progress.close()  # what follows, the decoding, tells of itself
        raise UserError("the run ended before its last step")
    finally:
        progress.close()


def write_outputs(pipe: HunyuanVideoPipeline, job: Job, stream: SampleStream, output: SampleOutput) -> None:
    """Writes every video of one prompt in every wanted format and prints the names."""
    from hunyuan_video.media.write import save_video
    from hunyuan_video.sampling.record import run_record

    fps = job.fps or pipe.defaults.fps
    options = {
        "adapter": job.adapter,
        "dtype": job.dtype,
        "precision": job.precision,
        "contact_sheet": job.contact_sheet,
        "fit": job.fit,
    }
    options |= {name: job.arguments.get(name) for name in ("negative_prompt", "image", "video")}
    sizes = {} if job.asked is None else dict(zip(("num_frames", "height", "width"), job.asked, strict=True))
    recorded: dict[str, Any] = {"fps": fps, "sizes": sizes, "seed": job.seed, "model": job.model, "options": options}
    for video in range(len(output.latents)):
        for path in job.paths(job.index, video):
            if Path(path).suffix != LATENTS:
                record = run_record(pipe.models, output, video, stream.state.prompts, **recorded)
                save_video(
                    path,
                    cropped(output.frames[video], job.asked),
                    fps=fps,
                    metadata=record,
                    contact_sheet=job.contact_sheet,
                )
            elif video == 0:  # the file holds all videos of its prompt
                stream.state.save(path)
            else:
                continue
            print(path)
