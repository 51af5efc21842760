"""`hunyuan-video encode`: latents and text features of a source, once, for any number of training runs.

Shards are the unit of work: which clips a shard holds is fixed by the source, so several processes or machines may
fill one data set, and an interrupted run continues with the shards that are missing. A shard's index says what it was
made of (record.py): when the source has changed, the same command encodes what is new and drops what is gone.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hunyuan_video.checkpoints.configs import read_grid
from hunyuan_video.checkpoints.layout import checkpoint_folder
from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.record import (
    FILE,
    FORMAT,
    Record,
    changes,
    deal,
    is_current,
    left_out_of,
    made_of,
    read_description,
    remove_strangers,
    shard_about,
)
from hunyuan_video.data.shards import CLIP, Member, ShardWriter, is_complete, read_about, read_index, read_member
from hunyuan_video.data.skipped import Skipped, counted, tell, write_skipped
from hunyuan_video.data.sources import Clip, Source, scan
from hunyuan_video.errors import Notice, UserError
from hunyuan_video.files import staged_file, write_json
from hunyuan_video.fingerprint import folder_hash
from hunyuan_video.writers import one_writer

if TYPE_CHECKING:  # where nothing has changed, not even torch is imported
    from hunyuan_video.data.encoder import Encoder


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
    image_first: bool = False  # for image-to-video, see `encoder.encode_clips`
    tier: str | None = None  # of a curated manifest


@dataclass(frozen=True)
class Summary:
    """Counts of an encoding run: found = clips + skipped + waiting."""

    clips: int
    shards: int
    missing: int  # shards that are another part's, or another run's
    waiting: int  # clips of these
    skipped: list[Skipped] = field(default_factory=list)
    buckets: dict[str, int] = field(default_factory=dict)  # clips of each

    @property
    def found(self) -> int:
        return self.clips + self.waiting + len(self.skipped)

    def __str__(self) -> str:
        waiting = f" ({self.waiting} clips)" if self.missing else ""
        causes = f" ({counted(self.skipped)}; skipped.jsonl names them)" if self.skipped else ""
        counts = f"{self.clips} clips, {self.shards} shards, {self.missing} missing{waiting}"
        buckets = ", ".join(f"{count} of {bucket}" for bucket, count in self.buckets.items())
        shares = f"; {buckets}" if len(self.buckets) > 1 else ""
        return f"{counts}, {len(self.skipped)} skipped{causes}; {self.found} found{shares}"


Job = tuple[Path, list[Clip]]  # a shard and the clips that it should hold


def encode(
    request: EncodeRequest,
    report: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Encode what is missing of a source or has changed since. Raises UserError, also where no clip can be encoded.

    progress: gets the clips done and those to do, after every batch (with several workers after every shard).
    """
    check(request)
    which, parts = request.part
    with one_writer(request.output, "encodes", part="" if parts == 1 else f"-{which}-of-{parts}"):
        return _encode(request, report, progress)


def _encode(request: EncodeRequest, report: Callable[[str], None], progress: Callable[[int, int], None]) -> Summary:
    known = _known(request)
    record = Record.read(request.output) if known else Record()
    source = _scan(request, record)
    planned = {key for keys in record.shards.values() for key in keys}
    shards = deal(record.shards, source.clips, dict.fromkeys(request.buckets), request.shard)
    by_key = {clip.key: clip for clip in source.clips}
    jobs = [(request.output / f"{name}.tar", [by_key[key] for key in keys]) for name, keys in shards.items()]
    todo = [job for job in jobs[request.part[0] :: request.part[1]] if not is_current(*job)]
    encoders = folder_hash(checkpoint_folder(request.model))
    encoder = None
    if todo or not known or encoders != record.encoders:
        from hunyuan_video.data.encoder import Encoder

        encoder = Encoder(request.model, request.device)
        prepare(request.output, encoder, request, known)
    before = made_of(request.output, record.shards)
    # Clips of shards that were planned and never written are neither new nor removed.
    placed = [clip for clip in source.clips if clip.key in before or clip.key not in planned]
    if before and (text := changes(before, placed)):
        report(f"since the last run: {text}")
    remove_strangers(request.output, shards)
    if (now := Record(shards, source.probed, encoders)) != record:
        now.write(request.output)
    report(f"{len(jobs)} shards, {sum(is_current(*job) for job in jobs)} of them done")
    ticks = _Ticks(progress, sum(len(clips) for _, clips in todo))
    for done, (path, skipped) in enumerate(_run(todo, encoder, request, ticks) if encoder else (), 1):
        tell(skipped)
        left_out = f", {len(skipped)} clips skipped" if skipped else ""
        report(f"{path.parent.name}/{path.name} ({done}/{len(todo)}){left_out}")
    return _finish(request, source, jobs)


@dataclass
class _Ticks:
    """Clips that are done, told as they are."""

    progress: Callable[[int, int], None]
    total: int
    done: int = 0

    def __call__(self, clips: int) -> None:
        self.done += clips
        self.progress(self.done, self.total)


def check(request: EncodeRequest) -> None:
    """UserError for settings that no source fits."""
    if not request.buckets:
        raise UserError("give at least one bucket, for example --bucket 17x64x64")
    which, parts = request.part
    if not 0 <= which < parts or min(request.shard, request.batch, request.workers, request.captions) < 1:
        raise UserError("part must be I/N with 0 <= I < N; shard, batch, workers and captions must be 1 or more")


def _scan(request: EncodeRequest, record: Record) -> Source:
    grid = read_grid(checkpoint_folder(request.model))
    buckets = [Bucket.parse(text, grid) for text in dict.fromkeys(request.buckets)]
    return scan(
        request.source, buckets, clips=request.clips, captions=request.captions, fps=request.fps, seed=request.seed,
        known=record.probed, tier=request.tier,
    )  # fmt: skip


def _finish(request: EncodeRequest, source: Source, jobs: list[Job]) -> Summary:
    """Counts, and skipped.jsonl; a data set without a clip is taken away again."""
    complete = [job for job in jobs if is_current(*job)]
    waiting = sum(len(clips) for _, clips in jobs) - sum(len(clips) for _, clips in complete)
    skipped = [*source.skipped, *(entry for path, _ in complete for entry in left_out_of(path))]
    buckets: Counter[str] = Counter()
    for path, _ in complete:
        buckets[path.parent.name] += len(read_index(path))
    clips = buckets.total()
    summary = Summary(clips, len(complete), len(jobs) - len(complete), waiting, skipped, dict(buckets))
    if not clips and not waiting:
        remove_strangers(request.output, ())
        for name in ("dataset.json", "empty.safetensors", FILE, "skipped.jsonl"):
            (request.output / name).unlink(missing_ok=True)
        text = f"none of its {len(skipped)} clips can be read: {counted(skipped)}; {request.output} holds no clips"
        raise UserError(f"{request.source}: {text}")
    write_skipped(request.output / "skipped.jsonl", skipped)
    return summary


def _settings(request: EncodeRequest) -> dict[str, Any]:
    """Settings that the clips of a data set depend on."""
    settings = {name: getattr(request, name) for name in SOURCE_KEYS} | {"buckets": list(request.buckets)}
    if request.tier is not None:
        settings["tier"] = request.tier
    return settings | ({"image_first": True} if request.image_first else {})


def _known(request: EncodeRequest) -> dict[str, Any] | None:
    """The description of the data set that is to be continued, None where there is none. UserError if it is another."""
    path = request.output / "dataset.json"
    if not path.exists():
        return None
    try:
        known = read_description(path)
    except ValueError as error:
        why = "damaged" if "damaged" in str(error) or isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{path}: {why}; remove {request.output} and encode again") from None
    if known["format"] != FORMAT:
        raise UserError(
            f"{path}: made by an earlier version (format {known['format']}); training reads it, but it cannot be "
            "continued: choose another output"
        )
    if changed := _difference(known["source"], _settings(request)):
        raise UserError(f"{request.output} was begun with another {changed}; choose another output")
    return known


def prepare(folder: Path, encoder: Encoder, request: EncodeRequest, known: dict[str, Any] | None) -> None:
    """Write the description of the data set, or check that the one already there is of the same encoders."""
    description = encoder.description()
    if known:
        if changed := _difference({name: known[name] for name in description}, description):
            raise UserError(f"{folder} was begun with another {changed}; choose another output")
        return
    import torch

    from hunyuan_video.data.latent_dataset import EncodedClip, pack

    try:
        texts, pooled = encoder.sentences([""], True)
    except ValueError as error:
        raise UserError(f"{request.model}: {error}") from None
    empty = EncodedClip("", torch.zeros(0, dtype=torch.float32, device="cpu"), [""], texts, pooled)
    with staged_file(folder / "empty.safetensors") as file:
        file.write(pack(empty))
    write_json(folder / "dataset.json", {**description, "source": _settings(request)})


def _difference(known: dict[str, Any], now: dict[str, Any]) -> str:
    """The first setting that differs: its name and both values; "" where none does."""
    changed = next((name for name in (*now, *known) if known.get(name) != now.get(name)), None)
    return f"{changed} ({known.get(changed)}, now {now.get(changed)})" if changed else ""


SOURCE_KEYS = ("source", "clips", "captions", "fps", "seed", "shard", "model")


def encode_shard(
    encoder: Encoder, path: Path, clips: list[Clip], request: EncodeRequest, tick: Callable[[int], None]
) -> list[Skipped]:
    """Write one shard; returns the clips that are left out. What an earlier shard has unchanged is taken from there."""
    left_out: dict[str, Skipped] = {}
    kept = _kept(path)
    with ShardWriter(path) as writer:
        for start in range(0, len(clips), request.batch):
            batch = clips[start : start + request.batch]
            fresh = {(clip.key, clip.made_of): clip for clip in batch if (clip.key, clip.made_of) not in kept}
            made = _encoded(encoder, list(fresh.values()), left_out, request)
            for clip in batch:
                content = made.get(clip.key) or kept.get((clip.key, clip.made_of))
                if content is not None and clip.key not in left_out:
                    writer.add(clip.key + CLIP, content if isinstance(content, bytes) else read_member(content))
            tick(len(batch))
        writer.about["clips"] = shard_about(clips)
        writer.about["left_out"] = {key: [entry.path, entry.cause, entry.detail] for key, entry in left_out.items()}
    return list(left_out.values())


def _kept(path: Path) -> dict[tuple[str, str], Member]:
    """The clips of an earlier shard by key and what they were made of."""
    if not is_complete(path):
        return {}
    try:
        members = {member.name.removesuffix(CLIP): member for member in read_index(path)}
    except UserError:  # damaged
        return {}
    return {(key, made): members[key] for key, made in read_about(path).get("clips", ()) if key in members}


def _encoded(
    encoder: Encoder, clips: list[Clip], left_out: dict[str, Skipped], request: EncodeRequest
) -> dict[str, bytes]:
    """The clips of one bucket as bytes, by key; those that cannot be read or stored go to `left_out`."""
    from hunyuan_video.data.latent_dataset import pack

    readable, pixels = [], []
    for clip in clips:
        try:
            pixels.append(clip.pixels())
            readable.append(clip)
        except (OSError, ValueError) as error:
            left_out[clip.key] = Skipped(clip.name, "unreadable", str(error))
    made = {}
    encoded = encoder.encode(readable, pixels, image_first=request.image_first) if readable else ()
    for clip, result in zip(readable, encoded, strict=True):
        if isinstance(result, str):
            cause = "not finite" if "not finite" in result else "beyond float16"
            left_out[clip.key] = Skipped(clip.name, cause, f"{clip.name}: {result}")
        else:
            made[clip.key] = pack(result)
    return made


def _run(
    jobs: list[Job], encoder: Encoder, request: EncodeRequest, tick: Callable[[int], None]
) -> Iterator[tuple[Path, list[Skipped]]]:
    """(path, left out) as shards are finished, here or in worker processes."""
    if request.workers == 1:
        for path, clips in jobs:
            yield path, encode_shard(encoder, path, clips, request, tick)
        return
    with ProcessPoolExecutor(request.workers, get_context("spawn"), _start_worker, (request,)) as pool:
        for (_, clips), finished in zip(jobs, pool.map(_worker, jobs), strict=True):
            tick(len(clips))
            yield finished


_state: dict[str, Any] = {}


def _start_worker(request: EncodeRequest) -> None:
    import torch

    from hunyuan_video.data.encoder import Encoder

    torch.set_num_threads(1)
    _state["request"] = request
    _state["encoder"] = Encoder(request.model, request.device)
    warnings.simplefilter("always", Notice)
    warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)


def _worker(job: Job) -> tuple[Path, list[Skipped]]:
    return job[0], encode_shard(_state["encoder"], *job, _state["request"], lambda clips: None)
