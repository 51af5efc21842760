"""`hunyuan-video decode STATE -o out.mp4`: video from saved latents, without a transformer or text encoder."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from hunyuan_video.cli.job import numbered, resume_command
from hunyuan_video.cli.options import add_model_options, add_output_options, chosen_device, torch_dtype
from hunyuan_video.errors import ArgumentError


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("decode", help="decode saved latents to a video")
    parser.add_argument(
        "latents", metavar="STATE", help="a state file, or latents saved with sample -o NAME.safetensors"
    )
    add_output_options(parser, latents=False)
    add_model_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    from hunyuan_video.checkpoints.layout import checkpoint_folder
    from hunyuan_video.checkpoints.pipeline import load_parts
    from hunyuan_video.fingerprint import fingerprint
    from hunyuan_video.media.write import check_output, save_video
    from hunyuan_video.rules import check_number
    from hunyuan_video.sampling.decode import decode_latents, to_uint8
    from hunyuan_video.sampling.models import read_defaults
    from hunyuan_video.sampling.resume_state import SamplingState

    if not args.output:
        raise ArgumentError("say with -o where the video goes, e.g. -o out.mp4")
    remedy = "give a state file of `sample`, or latents that it saved with -o NAME.safetensors"
    state = SamplingState.load(args.latents, remedy)
    job = state.extra.get("job", {})
    folder = checkpoint_folder(args.model or job.get("model", "tiny"))
    fps = (job.get("fps") or read_defaults(folder).fps) if args.fps is None else args.fps
    check_number("--fps", fps, low=0, above=True, high=1000)
    paths = [output_paths(args.output, video, len(state.latents)) for video in range(len(state.latents))]
    for path in sum(paths, []):
        size = {"height": state.settings.height, "width": state.settings.width}
        check_output(path, state.settings.num_frames, contact_sheet=args.contact_sheet, fps=fps, **size)
    if not state.complete:
        print(
            f"note: these latents are from step {state.step} of {state.total}, so the video is noisy; "
            f"finish it with: {resume_command(args.latents)}",
            file=sys.stderr,
        )
    vae = load_parts(folder, ("vae",), dtype=torch_dtype(args.dtype), device=chosen_device(args))["vae"]
    if state.models.get("vae", now := fingerprint(vae)) != now:
        print("note: these latents were made with another VAE (or dtype), colors may differ", file=sys.stderr)
    frames = to_uint8(decode_latents(vae, state.latents, args.vae_mode or "auto")).numpy()
    for video, names in enumerate(paths):
        prompt = state.prompts[video // state.settings.num_videos_per_prompt]
        for path in names:
            command = shlex.join(["hunyuan-video", "decode", Path(args.latents).name])
            metadata = {"program": "hunyuan-video", "command": command, "prompt": prompt}
            metadata["settings"] = state.settings.as_dict()
            save_video(path, frames[video], fps=fps, metadata=metadata, contact_sheet=args.contact_sheet)
            print(path)
    return 0


def output_paths(outputs: list[str], video: int, videos: int) -> list[str]:
    return outputs if videos == 1 else [numbered(name, video + 1) for name in outputs]
