"""diffusers under torch.compile, as fast as it gets there: frozen weights, a compilation for every shape."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.cpu.minis import Scale, Video, latents, load, saved, transformer, vae
from benchmarks.cpu.tasks import Contest, diffusers_pipeline, forward_inputs, pipeline_runs, tokens, vae_run
from benchmarks.results import OURS, PEER, Row
from hunyuan_video import HunyuanVideoPipeline

# What the process must have been started with: weights become constants, laid out for oneDNN once.
ENVIRONMENT = {"TORCHINDUCTOR_FREEZING": "1"}
COMPILED = f"{PEER}, torch.compile"


@torch.no_grad()
def compiled(scale: Scale, dtype: str = "bfloat16") -> Iterator[Row]:
    """Transformer, pipeline and VAE, in turn with this package.

    What is compiled is not counted. The transformer and the VAE's decoder are; differences are from the eager result.
    """
    with saved(transformer(scale.transformer), vae(scale.vae)) as folder:
        ours = HunyuanVideoPipeline(*(load(folder, kind, OURS, dtype) for kind in ("transformer", "vae")))
        theirs = diffusers_pipeline(folder, dtype)
        network, fast = theirs.transformer, torch.compile(theirs.transformer, dynamic=False)
        yield _forward(scale, scale.small, dtype, ours.transformer, network, fast)

        clip, film = Contest("VAE decode"), Contest("pipeline")
        clip_size, film_size = str(scale.small).split(",")[0], str(scale.small)
        x = latents(scale, scale.small).to(getattr(torch, dtype))
        clip_runs = {side: vae_run(vae, side, x) for side, vae in ((OURS, ours.vae), (PEER, theirs.vae))}
        film_runs = pipeline_runs(scale, ours, theirs, scale.small, dtype)
        clip.exact[clip_size], film.exact[film_size] = clip_runs[PEER](), film_runs[PEER]()
        theirs.transformer, theirs.vae.decoder = fast, torch.compile(theirs.vae.decoder, dynamic=False)
        yield _race(clip, clip_size, dtype, clip_runs, rounds=(2, 5))
        yield _race(film, film_size, dtype, film_runs, rounds=(2, 3))

        yield _forward(scale, scale.large, dtype, ours.transformer, network, fast)


def _forward(scale: Scale, video: Video, dtype: str, ours: Any, network: Any, fast: Any) -> Row:
    given, same = forward_inputs(scale, video, dtype)
    # As its pipeline passes them, so that this does not compile another version.
    same = {name: value.to(network.dtype) if isinstance(value, Tensor) else value for name, value in same.items()}
    contest, size = Contest("transformer forward"), tokens(scale, video)
    contest.exact[size] = network(**same)[0]
    runs = {OURS: lambda: ours(**given), PEER: lambda: fast(**same)[0]}
    return _race(contest, size, dtype, runs, seconds=5.0)


def _race(contest: Contest, size: str, dtype: str, runs: dict[str, Callable[[], Any]], **options: Any) -> Row:
    started = time.perf_counter()
    runs[PEER]()
    print(f"  compiling the {contest.task}, {size}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return contest.run(size, dtype, {OURS: runs[OURS], COMPILED: runs[PEER]}, **options)
