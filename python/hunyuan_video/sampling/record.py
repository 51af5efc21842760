"""Record of a run that goes into the files it makes: with it anyone can make the video again.

It holds nothing of the machine or of the file's name, so equal videos are equal files, whoever writes them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hunyuan_video import __version__
from hunyuan_video.sampling.models import LoadedModels
from hunyuan_video.sampling.request import as_arguments, flag_of
from hunyuan_video.sampling.run import SampleOutput


def run_record(
    models: LoadedModels,
    output: SampleOutput,
    video: int,  # of the output, 0..N - 1
    prompts: list[str],  # of the run
    *,
    fps: float,
    seed: int = 0,  # where the output has no seeds: the noise was given
    model: str,
    options: Mapping[str, Any],
    sizes: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Metadata for `save_video`; JSON types.

    model: what --model of the command is. options: what else the command gets, by the argument's name: a value, True
    for a flag without one; None and False are left out. Files are named without their folder. sizes: frames, height and
    width that were asked for, where the video was cropped to them.
    """
    settings = {**output.settings, **(sizes or {}), "fps": fps}
    number = video // settings.pop("num_videos_per_prompt")
    if not models.transformer.config.guidance_embed:
        del settings["guidance_scale"]
    seed = output.seeds[video] if output.seeds else seed
    return {
        "program": "hunyuan-video",
        "version": __version__,
        "command": sample_command(prompts[number], seed, model, settings, options),
        "prompt": prompts[number],
        "seed": seed,
        "settings": settings,
        "model": model,
        "fingerprints": models.fingerprints(),
        "tokens": {name: vars(reports[number]) for name, reports in output.tokens.items()},
    }


def sample_command(prompt: str, seed: int, model: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """The command that makes a video again, all numbers of `settings` spelled out, without -o."""
    words = ["hunyuan-video", "sample", prompt, "--seed", str(seed), "--model", model]
    switches = []
    for name, value in options.items():
        if value is True:
            switches.append(flag_of(name))
        elif value:
            words += [flag_of(name), Path(value).name if name in ("image", "video") else str(value)]
    for name, value in as_arguments(settings).items():
        words += [flag_of(name), as_text(value)]
    return shlex.join(words + switches)


def as_text(value: Any) -> str:
    """A setting as its flag takes it, with every digit that counts: 7.0 -> 7, [1.0, 0.5, 0.0] -> 1,0.5,0."""
    if isinstance(value, list | tuple):
        return ",".join(map(as_text, value))
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
