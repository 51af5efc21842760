"""Plan of a sampling run: memory and time of every stage, and what is done so that it fits.

Bytes are counted with the very code on the meta device (live.py), weights from configs and headers; nothing is loaded.
A GPU's bytes are those of torch's allocator; what the driver and fragmentation take is left free (`RESERVED`, `SLACK`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch

from hunyuan_ext.core.rehearsal import Machine
from hunyuan_video.checkpoints.pipeline import vae_dtype
from hunyuan_video.errors import UserError
from hunyuan_video.planning import budget as sizes_of_memory
from hunyuan_video.planning.counts import encoder_bytes, step_bytes, step_flops, table_bytes
from hunyuan_video.planning.decoding import decode_bytes, decode_choice, frames_bytes, pixels_of, vae_bytes
from hunyuan_video.planning.gpus import Rates, rates_of
from hunyuan_video.planning.ranks import exchange_bytes, halves, owned_bytes, share_of
from hunyuan_video.planning.sizes import Encoder, Sizes, Weights, weights_of

RESERVED = 500_000_000  # of a GPU: the driver's context and the libraries' workspaces
SLACK = 1.03  # of a GPU: bytes that the allocator holds for one byte in use
PROCESS = 325_000_000  # of the host: Python, torch and the libraries that a run loads (benchmarks/plan_memory.py)
FLOAT_PACKING = 1.0  # of the largest float32 product: MKL's and oneDNN's copy of a weight
DISK = 1e9  # bytes/s at which streamed weights come from their files: assumed, as plans say
MEMORY_MODES = ("auto", "resident", "stream")


@dataclass(frozen=True)
class Demand:
    """Videos of a run. videos: all of them; calls: passes of the transformer in a step (2 with a second-order solver).

    guided: with classifier-free guidance, so that every pass has twice the rows. cached: sets of tokens that a step
    cache keeps of every batch.
    """

    num_frames: int
    height: int
    width: int
    steps: int
    videos: int = 1
    batch: int = 1
    calls: int = 1
    guided: bool = False
    vae_mode: str = "auto"
    latents_only: bool = False
    encodes: bool = True  # prompts, not embeddings
    cached: int = 0

    @property
    def rows(self) -> int:
        return min(self.batch, self.videos) * (2 if self.guided else 1)


@dataclass(frozen=True)
class Target:
    """The device of a run. gpu: a card's name in `gpus.CARDS`, "" for one of which nothing is known. ranks: processes
    that make the video together, each with such a device, on one host.
    """

    device: str = "cpu"
    capability: tuple[int, int] | None = None
    gpu: str = ""
    device_memory: int | None = None
    host_memory: int | None = None
    ranks: int = 1

    @property
    def machine(self) -> Machine:
        return Machine(self.device, self.capability)


@dataclass(frozen=True)
class Choice:
    """One way to keep the transformer: precision of its blocks, dtype of the rest, resident or streamed."""

    precision: str
    dtype: torch.dtype
    memory: str


@dataclass
class Stage:
    name: str
    device_bytes: int
    host_bytes: int
    seconds: float | None


@dataclass
class RunPlan:
    """Result of `plan_run`. vae_budget: of exact decoding; kept_bytes: of blocks that a streamed run keeps in place."""

    stages: list[Stage]
    fits: bool
    choices: dict[str, Any]
    nearest_fit: dict[str, int] | None = None
    device_limit: int | None = None
    host_limit: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def device_peak_bytes(self) -> int:
        return max(stage.device_bytes for stage in self.stages)

    @property
    def host_peak_bytes(self) -> int:
        return max(stage.host_bytes for stage in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """JSON types only; `stages`, `device_peak_bytes`, `host_peak_bytes`, `fits`, `choices`, `nearest_fit`, ..."""
        values = asdict(self)
        return {**values, "device_peak_bytes": self.device_peak_bytes, "host_peak_bytes": self.host_peak_bytes}


def plan_run(sizes: Sizes, demand: Demand, target: Target, choices: list[Choice]) -> RunPlan:
    """The first of the choices that fits, else the last with `nearest_fit`; no limit, no refusal."""
    plan = None
    for choice in choices:
        plan = _planned(sizes, demand, target, choice)
        if plan.fits:
            return plan
    if plan is None:
        raise UserError("there is no way to keep this model's weights as asked")
    plan.nearest_fit = _nearest(sizes, demand, target, choices)
    return plan


def _planned(sizes: Sizes, demand: Demand, target: Target, choice: Choice) -> RunPlan:
    latent = sizes.grid.latent_shape(demand.num_frames, demand.height, demand.width)
    weights = weights_of(sizes.transformer, choice.precision, choice.dtype)
    count = _Counts(sizes, demand, target, choice, latent, weights)
    return count.plan()


class _Counts:
    """The stages of one way to run."""

    def __init__(
        self, sizes: Sizes, demand: Demand, target: Target, choice: Choice, latent: tuple[int, int, int, int],
        weights: Weights,
    ):  # fmt: skip
        self.sizes, self.demand, self.target, self.choice = sizes, demand, target, choice
        self.latent, self.weights = latent, weights
        self.on_cpu, self.streams = target.device == "cpu", choice.memory == "stream"
        self.limit = self._limit()
        config, text = sizes.transformer, sizes.text_length
        halved = halves(target.ranks, demand.guided, target.device)
        self.ranks, self.rows = target.ranks // halved, max(demand.rows // halved, 1)
        share = share_of(latent, config, self.ranks)
        self.live = step_bytes(config, choice.precision, choice.dtype, target.machine, share, self.rows, text)
        self.live += exchange_bytes(latent, config, self.ranks, self.rows, text, choice.dtype.itemsize)
        if self.on_cpu and choice.dtype == torch.float32:
            self.live += int(FLOAT_PACKING * _largest_product(config))
        self.live += self._cache()
        distinct = 1 if demand.batch > 1 else min(demand.videos, 1)
        self.table = table_bytes(config, choice.dtype, demand.steps, demand.rows) * max(distinct, 1)
        self.vae_type = vae_dtype(None if self.on_cpu else choice.dtype, torch.device(target.device))
        has_vae = sizes.vae is not None and not demand.latents_only
        self.vae = vae_bytes(sizes.vae, self.vae_type) if sizes.vae is not None and has_vae else 0
        self.encoders = [part for part in (sizes.text, sizes.clip) if part is not None and demand.encodes]
        self.kept = self._kept()

    def _limit(self) -> int | None:
        """Bytes for everything in the memory where the model runs."""
        if self.on_cpu:
            limits = [size for size in (self.target.device_memory, self.target.host_memory) if size is not None]
            return min((size // self.target.ranks for size in limits), default=None)
        given = self.target.device_memory
        return None if given is None else max(int((given - RESERVED) / SLACK), 1)

    def _cache(self) -> int:
        """Bytes of a step cache: what it keeps of every batch, and one set of tokens on their way."""
        if not self.demand.cached:
            return 0
        tokens = math.prod(self.latent[1:]) // self.sizes.transformer.patch_volume
        each = self.demand.rows * tokens * self.sizes.transformer.hidden_size * self.choice.dtype.itemsize
        return each * (self.demand.cached * math.ceil(self.demand.videos / self.demand.batch) + 1)

    @property
    def base(self) -> int:
        return PROCESS if self.on_cpu else 0

    def _encoder(self, encoder: Encoder) -> tuple[int, int]:
        """Bytes of the weights, and beside them, while it reads the prompt."""
        dtype = self.choice.dtype if self.on_cpu else encoder.dtype
        count = encoder.streamed if self.streams else encoder.elements
        return count * dtype.itemsize, encoder_bytes(encoder.config, dtype, encoder.tokens)

    def _kept(self) -> int:
        """Blocks, in bytes, that stay in place in a streamed run: those for which there is room."""
        if self.streams and self.target.ranks > 1:
            return owned_bytes(self.weights.blocks, self.target.ranks)
        if not self.streams or self.limit is None:
            return 0
        fixed = self.base + self.weights.outside + self.weights.streamed + self.table + self.live
        room, kept = self.limit - fixed, 0
        for block in self.weights.blocks:
            if kept + block > room:
                break
            kept += block
        return kept

    def plan(self) -> RunPlan:
        held = [self._encoder(encoder) for encoder in self.encoders]
        text = sum(weights for weights, _ in held)
        whole = self.base + self.weights.total + self.vae + text
        choices: dict[str, Any] = {
            "device": self.target.device, "precision": self.choice.precision, "memory": self.choice.memory,
            "dtype": str(self.choice.dtype).removeprefix("torch."),
        }  # fmt: skip
        if self.streams:
            encoding = self.base + max((weights + live for weights, live in held), default=0)
            outside = self.base + self.weights.outside
            table = outside + self.table + self.weights.largest_modulation
            streamed = 0 if self.kept >= sum(self.weights.blocks) else self.weights.streamed
            denoising = outside + self.kept + streamed + self.table + self.live
            decoding = outside + self.vae
            kept = -(-len(self.weights.blocks) // self.target.ranks) if self.target.ranks > 1 else self._kept_blocks()
            choices["kept_blocks"], choices["kept_bytes"] = kept, self.kept
        else:
            encoding = whole + max((live for _, live in held), default=0)
            table, denoising, decoding = whole + self.table, whole + self.table + self.live, whole + self.table
        stages = [
            self._stage("text_encoders", encoding, None),
            self._stage("modulation_table", table, None),
            self._stage("denoising", denoising, self._denoising_seconds()),
        ]
        if not self.demand.latents_only and self.sizes.vae is not None:
            stages += self._decoding(decoding, choices)
        return self._judged(stages, choices)

    def _kept_blocks(self) -> int:
        kept = 0
        for index, block in enumerate(self.weights.blocks):
            kept += block
            if kept > self.kept:
                return index
        return len(self.weights.blocks)

    def _stage(self, name: str, in_place: int, seconds: float | None, host: int = 0) -> Stage:
        if self.on_cpu:
            return Stage(name, 0, in_place + host, seconds)
        return Stage(name, in_place, PROCESS * self.target.ranks + host, seconds)

    def _decoding(self, beside: int, choices: dict[str, Any]) -> list[Stage]:
        assert self.sizes.vae is not None
        config, machine, wanted = self.sizes.vae, self.target.machine, self.demand.vae_mode
        pixels = pixels_of(config, self.latent)
        tail = frames_bytes(pixels)
        earlier = (self.demand.videos - 1) * 3 * pixels * 4
        room = None if self.limit is None else self.limit - beside - (tail + earlier if self.on_cpu else 0)
        mode, budget, live = decode_choice(config, self.latent, wanted, self.vae_type, machine, room)
        if live is None:  # not even the least: say what it would take
            live = decode_bytes(config, self.latent, "exact", self.vae_type, machine, 1 << 60)
        choices["vae_mode"], choices["vae_budget"] = mode, budget
        live = live or 0
        sharing = self.target.ranks if mode == "tiled" else 1
        tile = config.out_channels * (config.tile_frames + 1) * config.tile_size**2 * self.vae_type.itemsize
        live += (sharing - 1) * tile  # of a round, on the first rank
        rates = rates_of(self.target.gpu)
        seconds = None
        if rates is not None and mode in ("tiled", "exact"):
            seconds = self.demand.videos * pixels / 1e9 * (rates.tiled if mode == "tiled" else rates.exact) / sharing
        video = 3 * pixels * self.vae_type.itemsize
        host = earlier if self.on_cpu else video + earlier
        decode = self._stage("decode", beside + live, seconds, host)
        shown = tail + earlier + (video if not self.on_cpu else 0)
        frames = (self.demand.videos + 1) * 3 * pixels * 2
        writing = self._stage("mp4", beside, None, max(shown, frames))
        return [decode, writing]

    def _denoising_seconds(self) -> float | None:
        rates = rates_of(self.target.gpu) if not self.on_cpu else None
        if rates is None:
            return None
        demand = self.demand
        passes = demand.steps * demand.calls * math.ceil(demand.videos / demand.batch)
        work = _step_seconds(self.sizes, self.choice, self.latent, self.rows, rates) / self.ranks
        moved = sum(self.weights.blocks) - self.kept if self.streams and self.target.ranks == 1 else 0
        return passes * max(work, moved / DISK)

    def _judged(self, stages: list[Stage], choices: dict[str, Any]) -> RunPlan:
        plan = RunPlan(stages, True, choices, None, self.target.device_memory, self.target.host_memory)
        if self.limit is not None:
            peak = plan.host_peak_bytes if self.on_cpu else plan.device_peak_bytes
            plan.fits = peak <= self.limit
        if not self.on_cpu and self.target.host_memory is not None:
            plan.fits = plan.fits and plan.host_peak_bytes <= self.target.host_memory
        if self.choice.precision not in (self.sizes.stored, "bf16", "float32"):
            plan.notes.append(f"the blocks become {self.choice.precision}, so the video is not that of the checkpoint")
        if self.demand.cached:
            plan.notes.append("how many steps the cache will skip is not known before; times are those without it")
        rates = rates_of(self.target.gpu)
        if self.target.ranks > 1:
            choices["ranks"] = self.target.ranks
            plan.notes.append("times of several ranks are without what they send each other; memory is the first's")
        if not self.on_cpu:
            if self.streams and self.target.ranks == 1 and self.kept < sum(self.weights.blocks):
                plan.notes.append(
                    "streamed blocks are read from their files at every step; 1 GB/s is assumed for times"
                )
            known = "no rates are known of this GPU (--gpu), so no times"
            choices["rates"] = known if rates is None else rates.source
        return plan


def _step_seconds(sizes: Sizes, choice: Choice, latent: tuple[int, int, int, int], rows: int, rates: Rates) -> float:
    attention, products = step_flops(sizes.transformer, latent, rows, sizes.text_length)
    kind = choice.precision if choice.precision in rates.products else "bf16"
    return attention / (rates.attention["bf16"] * 1e12) + products / (rates.products[kind] * 1e12)


@lru_cache(maxsize=8)
def _largest_product(config: Any) -> int:
    return 4 * config.hidden_size * max(3 * config.hidden_size + config.mlp_width, 4 * config.hidden_size)


def _nearest(sizes: Sizes, demand: Demand, target: Target, choices: list[Choice]) -> dict[str, int] | None:
    """The largest smaller video that fits: fewer frames of this size, or all frames of a smaller one."""
    best: Demand | None = None
    least = replace(demand, num_frames=1, height=sizes.grid.multiple, width=sizes.grid.multiple)
    if not any(_planned(sizes, least, target, choice).fits for choice in choices):
        return None
    for smaller in _smaller(sizes, demand):
        if best is not None and _pixels(smaller) <= _pixels(best):
            continue
        if any(_planned(sizes, smaller, target, choice).fits for choice in choices):
            best = smaller
    return None if best is None else {name: getattr(best, name) for name in ("num_frames", "height", "width")}


def _pixels(demand: Demand) -> int:
    return demand.num_frames * demand.height * demand.width


def _smaller(sizes: Sizes, demand: Demand) -> Iterator[Demand]:
    grid = sizes.grid
    for share in (0.75, 0.5, 0.25, 0.125, 0.0):
        frames = int(share * (demand.num_frames - 1)) // grid.temporal * grid.temporal + 1
        if frames < demand.num_frames:
            yield replace(demand, num_frames=frames)
    for share in (0.75, 0.5, 0.375, 0.25):
        sides = [max(int(share * side) // grid.multiple, 1) * grid.multiple for side in (demand.height, demand.width)]
        if sides != [demand.height, demand.width]:
            yield replace(demand, height=sides[0], width=sides[1])
    yield replace(demand, num_frames=1, height=grid.multiple, width=grid.multiple)


def plan_lines(plan: RunPlan) -> list[str]:
    """Three lines for people: memory, what is done, and whether it fits."""
    shown = sizes_of_memory.shown
    largest = max(plan.stages, key=lambda stage: (stage.device_bytes, stage.host_bytes))
    host = max(plan.stages, key=lambda stage: stage.host_bytes)
    device = f"GPU {shown(plan.device_peak_bytes)} ({largest.name}), " if plan.device_peak_bytes else ""
    limits = [f"{name} {shown(size)}" for name, size in (("GPU", plan.device_limit), ("host", plan.host_limit)) if size]
    first = f"memory: {device}host {shown(plan.host_peak_bytes)} ({host.name})"
    first += f"; limit {', '.join(limits)}" if limits else ""
    made = ", ".join(f"{key} {value}" for key, value in plan.choices.items() if value is not None)
    seconds = [stage.seconds for stage in plan.stages if stage.seconds is not None]
    time = f"about {sum(seconds):.0f} s" if seconds else "time not known"
    if plan.fits:
        last = f"fits; {time}"
    elif plan.nearest_fit is None:
        last = "does not fit, nor does any smaller video: give it more memory, or --memory stream"
    else:
        near = plan.nearest_fit
        last = f"does not fit; {near['num_frames']} frames of {near['height']}x{near['width']} would"
    return [first, f"chosen: {made}", last]
