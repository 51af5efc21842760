"""Measurements inside one process: blocks, transformer, VAE, pipeline, and the cost of calls;
and diffusers under torch.compile, as fast as it gets there: frozen weights, a compilation for every shape.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cpu.minis import Scale, Video, as_dtype, latents, load, prompt, saved, transformer, vae
from benchmarks.results import OURS, PEER, Row, raced, relative_difference
from benchmarks.timing import race
from hunyuan_video import HunyuanVideoPipeline, PromptEmbeds
from hunyuan_video.models import TransformerConfig

DTYPES = ("float32", "bfloat16")
FRAMEWISE = f"{PEER}, framewise (its default)"
Runs = dict[str, Callable[[], Any]]


class Contest:
    """Races of one task.

    Differences are from diffusers' float32 result, so that those of bfloat16 mean something; where that was not
    computed, from its bfloat16 result.
    """

    def __init__(self, task: str):
        self.task = task
        self.exact: dict[str, Tensor] = {}

    def run(self, size: str, dtype: str, runs: Mapping[str, Callable], **options: Any) -> Row:
        times, results = race(runs, **options)
        if dtype == "float32":
            self.exact[size] = results[PEER]
        expected = self.exact.get(size, results.get(PEER))
        errors = {
            name: None if result is expected else relative_difference(result, expected)
            for name, result in results.items()
        }
        return raced(self.task, size, dtype, times, errors)


def forward_inputs(scale: Scale, video: Video, dtype: str, valid: int | None = None) -> tuple[dict, dict]:
    """The same inputs as arguments of our transformer and of diffusers'."""
    text = as_dtype(prompt(scale, valid), dtype)
    x = latents(scale, video).to(getattr(torch, dtype))
    timestep, guidance = torch.tensor([500.0]), torch.tensor([6000.0])
    ours = dict(latents=x, timestep=timestep, text=text["text"], text_mask=text["mask"], pooled_text=text["pooled"])
    theirs = dict(
        hidden_states=x, timestep=timestep, encoder_hidden_states=text["text"], encoder_attention_mask=text["mask"],
        pooled_projections=text["pooled"], guidance=guidance, return_dict=False,
    )  # fmt: skip
    return {**ours, "guidance": guidance}, theirs


def tokens(scale: Scale, video: Video) -> str:
    frames, height, width = video.latent
    return f"{frames * height * width // 4 + scale.text} tokens"


@torch.no_grad()
def dit(scale: Scale, dtypes: Sequence[str] = DTYPES, lean: bool = False) -> Iterator[Row]:
    """One forward of the transformer, all text valid; and, unless lean, with a prompt of `scale.words` tokens."""
    cases = ((scale.small, None), (scale.large, None), (scale.small, scale.words))[: 2 if lean else 3]
    contest = Contest("transformer forward")
    with saved(transformer(scale.transformer)) as folder:
        for dtype in dtypes:
            model, peer = (load(folder, "transformer", side, dtype) for side in (OURS, PEER))
            for video, valid in cases:
                size = tokens(scale, video) + (f", {valid} of the text valid" if valid else "")
                runs = forward_runs(scale, model, peer, video, dtype, valid)
                yield contest.run(size, dtype, runs, seconds=3.5 if lean else 8.0)


def forward_runs(scale: Scale, model: Any, peer: Any, video: Video, dtype: str, valid: int | None = None) -> Runs:
    ours, theirs = forward_inputs(scale, video, dtype, valid)
    return {OURS: lambda: model(**ours), PEER: lambda: peer(**theirs)[0]}


@torch.no_grad()
def blocks(scale: Scale, dtypes: Sequence[str] = DTYPES) -> Iterator[Row]:
    """One dual-stream and one single-stream block at the larger size."""
    contests = {kind: Contest(f"{kind}-stream block") for kind in ("dual", "single")}
    with saved(transformer(scale.transformer)) as folder:
        for dtype in dtypes:
            model, peer = (load(folder, "transformer", side, dtype) for side in (OURS, PEER))
            for kind, runs in _block_runs(scale, model, peer, dtype).items():
                yield contests[kind].run(tokens(scale, scale.large), dtype, runs, seconds=3.0)


def _block_runs(scale: Scale, model: Any, peer: Any, dtype: str) -> dict[str, Runs]:
    generator = torch.Generator().manual_seed(2)
    frames, height, width = scale.large.latent
    grid = frames, height // 2, width // 2
    length = grid[0] * grid[1] * grid[2]
    shapes = (1, length, scale.transformer.hidden_size), (1, scale.text, scale.transformer.hidden_size)
    img, txt = (torch.randn(shape, generator=generator).to(getattr(torch, dtype)) for shape in shapes)
    vec = torch.randn((1, scale.transformer.hidden_size), generator=generator).to(getattr(torch, dtype))
    rope = model.rope(grid, img.device)
    joined = torch.cat((img, txt), dim=1)
    double, single = model.double_blocks[0], model.single_blocks[0]
    their_double, their_single = peer.transformer_blocks[0], peer.single_transformer_blocks[0]
    mask = torch.ones((1, 1, 1, length + scale.text), dtype=torch.bool)  # diffusers' transformer always passes one
    return {
        "dual": {
            OURS: lambda: double(img, txt, vec, rope, None)[0],
            PEER: lambda: their_double(img, txt, vec, mask, rope)[0],
        },
        "single": {
            OURS: lambda: single(joined, vec, rope, scale.text, None)[:, :length],
            PEER: lambda: their_single(img, txt, vec, mask, rope)[0],
        },
    }


@torch.no_grad()
def vae_decode(scale: Scale, dtypes: Sequence[str] = DTYPES, lean: bool = False) -> Iterator[Row]:
    """Decoding latents, by diffusers in one piece; in the last dtype, unless lean, also by its default in pieces."""
    contest, size = Contest("VAE decode"), str(scale.small).split(",")[0]
    with saved(vae(scale.vae)) as folder:
        for dtype in dtypes:
            model, peer = (load(folder, "vae", side, dtype) for side in (OURS, PEER))
            x = latents(scale, scale.small).to(getattr(torch, dtype))
            sides = {OURS: model, PEER: peer}
            if dtype == dtypes[-1] and not lean:
                sides[FRAMEWISE] = peer
            runs = {side: vae_run(vae, side, x) for side, vae in sides.items()}
            yield contest.run(size, dtype, runs, rounds=(2, 3) if dtype == "float32" else (3, 5))


def vae_run(model: Any, side: str, x: Tensor) -> Callable[[], Tensor]:
    def theirs() -> Tensor:
        model.use_framewise_decoding = side == FRAMEWISE
        return model.decode(x).sample

    return (lambda: model.decode(x)) if side == OURS else theirs


@torch.no_grad()
def pipeline(scale: Scale, dtypes: Sequence[str] = ("bfloat16",), lean: bool = False) -> Iterator[Row]:
    """Embeddings to pixels, prompts of `scale.words` of `scale.text` tokens, the same noise and weights.

    The smaller video also by diffusers' default decoding in pieces; lean: in one piece only, and no larger video.
    """
    contest = Contest("pipeline")
    with saved(transformer(scale.transformer), vae(scale.vae)) as folder:
        dtype = dtypes[0]
        if not lean:
            exact = diffusers_pipeline(folder, "float32")
            contest.exact[str(scale.small)] = pipeline_runs(scale, None, exact, scale.small, "float32")[PEER]()
            del exact
        ours = HunyuanVideoPipeline(*(load(folder, kind, OURS, dtype) for kind in ("transformer", "vae")))
        theirs = diffusers_pipeline(folder, dtype)
        runs = pipeline_runs(scale, ours, theirs, scale.small, dtype)
        if lean:
            runs.pop(FRAMEWISE)
        yield contest.run(str(scale.small), dtype, runs, rounds=(2, 3))
        if not lean:  # half a minute a call, and the smaller one has warmed everything up
            runs = pipeline_runs(scale, ours, theirs, scale.large, dtype)
            runs.pop(FRAMEWISE)
            yield contest.run(str(scale.large), dtype, runs, rounds=(1, 1), warm_up=False)


def diffusers_pipeline(folder: Path, dtype: str) -> Any:
    import diffusers

    pipe = diffusers.HunyuanVideoPipeline(
        transformer=load(folder, "transformer", PEER, dtype),
        vae=load(folder, "vae", PEER, dtype),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pipeline_runs(scale: Scale, ours: Any, theirs: Any, video: Video, dtype: str) -> Runs:
    embeds, noise = as_dtype(prompt(scale, scale.words), dtype), latents(scale, video)
    common = dict(height=video.height, width=video.width, num_frames=video.frames, num_inference_steps=video.steps)

    def run_ours() -> Tensor:
        given = PromptEmbeds(embeds["text"], embeds["mask"], embeds["pooled"])
        out = ours(prompt_embeds=given, latents=noise, flow_shift=7.0, output_type="pt", guidance_scale=6.0, **common)
        return out.frames.transpose(1, 2)  # [N, F, 3, H, W], as diffusers has it

    def run_theirs(framewise: bool) -> Tensor:
        theirs.vae.use_framewise_decoding = framewise
        return theirs(
            prompt_embeds=embeds["text"], prompt_attention_mask=embeds["mask"], pooled_prompt_embeds=embeds["pooled"],
            latents=noise, output_type="pt", guidance_scale=6.0, **common,
        ).frames  # fmt: skip

    return {
        OURS: run_ours,
        PEER: lambda: run_theirs(framewise=False),
        FRAMEWISE: lambda: run_theirs(framewise=True),
    }


@torch.no_grad()
def calls(scale: Scale) -> Iterator[Row]:
    """A transformer of the same depth whose tensors are as small as they can be: what remains is the cost of calls."""
    sizes = scale.transformer
    config = TransformerConfig(
        hidden_size=32, num_heads=1, double_blocks=sizes.double_blocks, single_blocks=sizes.single_blocks,
        refiner_depth=sizes.refiner_depth, text_dim=8, pooled_text_dim=8, rope_dims=(8, 12, 12),
    )  # fmt: skip
    small = Scale(config, scale.vae, Video(1, 16, 16, 1), scale.large, text=2, words=2)
    with saved(transformer(config)) as folder:
        for dtype in DTYPES:
            model, peer = (load(folder, "transformer", side, dtype) for side in (OURS, PEER))
            runs = forward_runs(small, model, peer, small.small, dtype)
            yield Contest("cost of calls").run(
                "transformer forward, 3 tokens", dtype, runs, seconds=2.0, rounds=(5, 100)
            )


# What the process must have been started with: weights become constants, laid out for oneDNN once.
COMPILE_ENVIRONMENT = {"TORCHINDUCTOR_FREEZING": "1"}
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
