"""`hunyuan-video encode`: latents and text features of a source, once, for any number of training runs.

Shards are the unit of work: which clips a shard holds is fixed by the source, so several processes or machines may
fill one data set, and an interrupted run continues with the shards that are missing.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from hunyuan_video.checkpoints.layout import checkpoint_folder
from hunyuan_video.checkpoints.pipeline import load_parts, read_grid
from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.latent_dataset import FORMAT, EncodedClip, pack, read_description
from hunyuan_video.data.shards import ShardWriter, is_complete, read_index
from hunyuan_video.data.sources import Clip, open_source
from hunyuan_video.errors import Notice, UserError
from hunyuan_video.files import staged_file, write_json
from hunyuan_video.flow import with_first_frame
from hunyuan_video.media.pixels import to_unit
from hunyuan_video.models import CausalVAE, ClipTextEncoder, TextEncoder
from hunyuan_video.models.fingerprint import weights_hash

DECODER = ("decoder.", "post_quant_conv.")  # parameters that do not change latents


def vae_fingerprint(vae: CausalVAE) -> str:
    """A short hash of the VAE's encoder weights: latents of another encoder are never mixed in."""
    weights = sorted(vae.state_dict().items())
    return weights_hash((name, weight) for name, weight in weights if not name.startswith(DECODER))


@torch.no_grad()
def encode_clips(
    vae: CausalVAE,
    video: Tensor,  # [N, 3, F, H, W] in [-1, 1]
    *,
    image_first: bool = False,
) -> Tensor:
    """Means of the posterior in model space: [N, C, T, h, w] float32.

    image_first: for image-to-video the first latent is that of the first frame encoded alone, as an image is when one
    samples. It is not the clip's own: the norms and the attention of the encoder see all frames.
    """
    latents = vae.encode(video).mode().float()
    if image_first:
        latents = with_first_frame(latents, vae.encode(video[:, :, :1]).mode())
    return latents * vae.config.scaling_factor


@dataclass(frozen=True)
class EncodeRequest:
    """Settings of an encoding run."""

    source: str
    output: Path
    buckets: tuple[str, ...]
    model: str = "tiny"
    clips: int | None = None
    captions: int = 4  # sentences for each toyworld clip
    fps: float = 24.0
    seed: int = 1
    shard: int = 256  # clips
    batch: int = 8  # clips encoded at once
    part: tuple[int, int] = (0, 1)  # (which, of how many): shards are dealt out between machines
    workers: int = 1  # processes on this machine
    device: str = "cpu"
    image_first: bool = False  # for image-to-video, see `encode_clips`


def text_fingerprint(text: TextEncoder, clip: ClipTextEncoder) -> str:
    """A short hash of both text encoders and of how prompts are framed."""
    frames = repr((text.template, text.skip_layer, text.apply_final_norm, clip.max_length))
    weights = chain(*(sorted(cast(nn.Module, module).state_dict().items()) for module in (text.model, clip.model)))
    return weights_hash(weights, frames)


class Encoder:
    """The encoders of a checkpoint, and clips turned into what the transformer trains on."""

    def __init__(self, model: str, device: str):
        parts = load_parts(
            checkpoint_folder(model),
            ("vae", "text_encoder", "clip_text_encoder"),
            dtype=None,
            device=torch.device(device),
        )
        self.vae: CausalVAE = parts["vae"]
        self.text: TextEncoder = parts["text_encoder"]
        self.clip: ClipTextEncoder = parts["clip_text_encoder"]
        self.device = device

    def description(self) -> dict:
        return {"format": FORMAT, **self.hashes(), "text_length": self.text.text_length}

    def hashes(self) -> dict[str, str]:
        """Fingerprints of the encoders; data encoded with equal ones fits."""
        return {"vae": vae_fingerprint(self.vae), "text": text_fingerprint(self.text, self.clip)}

    @torch.no_grad()
    def sentences(self, captions: list[str], video: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
        """([n_k, D] bfloat16 for each sentence, [K, P] bfloat16)."""
        encoded = self.text(captions, video=video)
        lengths = encoded.mask.sum(1).tolist()
        texts = [states[:n].bfloat16().cpu() for states, n in zip(encoded.hidden, lengths, strict=True)]
        return texts, self.clip(captions).pooled.bfloat16().cpu()

    @torch.no_grad()
    def encode(self, clips: list[Clip], pixels: list[torch.Tensor], *, image_first: bool = False) -> list[EncodedClip]:
        """Clips of one bucket with their pixels, uint8 [F, H, W, 3] each."""
        video = to_unit(torch.stack(pixels)).to(self.device, next(self.vae.parameters()).dtype)
        latents = encode_clips(self.vae, video, image_first=image_first).half().cpu()
        encoded = []
        for clip, latent in zip(clips, latents, strict=True):
            texts, pooled = self.sentences(clip.captions, clip.bucket.frames > 1)
            encoded.append(EncodedClip(clip.key, latent, clip.captions, texts, pooled))
        return encoded


def encode(request: EncodeRequest, report: Callable[[str], None] = print) -> dict[str, int]:
    """Encode what is missing of a source; returns counts of clips, shards and skipped clips. Raises UserError."""
    jobs = plan(request)
    encoder = Encoder(request.model, request.device)
    prepare(request.output, encoder, request)
    missing = [job for job in jobs if not is_complete(job[0])]
    report(f"{len(jobs)} shards, {len(jobs) - len(missing)} of them done")
    part = missing[request.part[0] :: request.part[1]]
    for done, (path, skipped) in enumerate(_run(part, encoder, request), 1):
        left_out = f", {skipped} clips skipped" if skipped else ""
        report(f"{path.parent.name}/{path.name} ({done}/{len(part)}){left_out}")
    complete = [job[0] for job in jobs if is_complete(job[0])]
    clips = sum(len(read_index(path)) for path in complete)
    skipped = sum(len(job[1]) for job in jobs if is_complete(job[0])) - clips
    return {"clips": clips, "shards": len(complete), "missing": len(jobs) - len(complete), "skipped": skipped}


def plan(request: EncodeRequest) -> list[tuple[Path, list[Clip]]]:
    """The shards of a source and the clips of each; the same for every process."""
    if not request.buckets:
        raise UserError("give at least one bucket, for example --bucket 17x64x64")
    which, parts = request.part
    if not 0 <= which < parts or min(request.shard, request.batch, request.workers, request.captions) < 1:
        raise UserError("part must be I/N with 0 <= I < N; shard, batch, workers and captions must be 1 or more")
    grid = read_grid(checkpoint_folder(request.model))
    buckets = [Bucket.parse(text, grid) for text in dict.fromkeys(request.buckets)]
    clips = open_source(
        request.source, buckets, clips=request.clips, captions=request.captions, fps=request.fps, seed=request.seed
    )
    if not clips:
        raise UserError(f"{request.source}: every video is shorter than the shortest bucket at {request.fps:g} fps")
    jobs = []
    for bucket in buckets:
        in_bucket = [clip for clip in clips if clip.bucket == bucket]
        for number, start in enumerate(range(0, len(in_bucket), request.shard)):
            path = request.output / str(bucket) / f"{number:05d}.tar"
            jobs.append((path, in_bucket[start : start + request.shard]))
    return jobs


def prepare(folder: Path, encoder: Encoder, request: EncodeRequest) -> None:
    """Write the description of the data set, or check that the one already there is the same."""
    description = {**encoder.description(), "source": {k: v for k, v in vars(request).items() if k in SOURCE_KEYS}}
    description["source"]["buckets"] = list(request.buckets)
    if request.image_first:
        description["source"]["image_first"] = True
    path = folder / "dataset.json"
    if path.exists():
        try:
            known = read_description(path)
        except ValueError:
            raise UserError(f"{path}: damaged; remove {folder} and encode again") from None
        changed = _difference({**known, **known["source"]}, {**description, **description["source"]})
        if changed:
            raise UserError(f"{folder} was begun with another {changed}; choose another output")
        return
    texts, pooled = encoder.sentences([""], True)
    empty = EncodedClip("", torch.zeros(0, dtype=torch.float32, device="cpu"), [""], texts, pooled)
    with staged_file(folder / "empty.safetensors") as file:
        file.write(pack(empty))
    write_json(path, description)


def _difference(known: dict, now: dict) -> str:
    """The first setting that differs: its name and both values; "" where none does."""
    names = (name for name in (*now, *known) if name != "source" or isinstance(now[name], str))
    changed = next((name for name in names if known.get(name) != now.get(name)), None)
    return f"{changed} ({known.get(changed)}, now {now.get(changed)})" if changed else ""


SOURCE_KEYS = ("source", "clips", "captions", "fps", "seed", "shard", "model")


def encode_shard(encoder: Encoder, path: Path, clips: list[Clip], request: EncodeRequest) -> int:
    """Write one shard; returns how many clips could not be read. Those are left out, and a notice says why."""
    skipped = 0
    with ShardWriter(path) as writer:
        for start in range(0, len(clips), request.batch):
            readable, pixels = [], []
            for clip in clips[start : start + request.batch]:
                try:
                    pixels.append(clip.pixels())
                    readable.append(clip)
                except (OSError, ValueError) as error:
                    warnings.warn(f"left out: {error}", Notice, stacklevel=2)
                    skipped += 1
            for encoded in encoder.encode(readable, pixels, image_first=request.image_first) if readable else ():
                writer.add(f"{encoded.key}.safetensors", pack(encoded))
    return skipped


def _run(jobs: list[tuple[Path, list[Clip]]], encoder: Encoder, request: EncodeRequest) -> Iterator[tuple[Path, int]]:
    """(path, skipped) as shards are finished, here or in worker processes."""
    if request.workers == 1:
        for path, clips in jobs:
            yield path, encode_shard(encoder, path, clips, request)
        return
    with ProcessPoolExecutor(request.workers, get_context("spawn"), _start_worker, (request,)) as pool:
        yield from pool.map(_worker, [path for path, _ in jobs])


_state: dict = {}


def _start_worker(request: EncodeRequest) -> None:
    torch.set_num_threads(1)
    _state["request"] = request
    _state["encoder"] = Encoder(request.model, request.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # told by the process that started this one
        _state["jobs"] = dict(plan(request))
    warnings.simplefilter("always", Notice)
    warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)


def _worker(path: Path) -> tuple[Path, int]:
    return path, encode_shard(_state["encoder"], path, _state["jobs"][path], _state["request"])
