"""Training steps of this package's transformer and of diffusers' in the same loop, as ratios:

    python -m benchmarks.cpu.training [--quick] [--rounds N]

Same weights, batch, noise, loss (flow matching), fused AdamW, bfloat16 autocast with float32 weights; forward, backward
and update alternate in one process. Peak memory: each side alone in its own process. The losses of the first steps are
printed beside each other: a speed at another loss would say nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import machine, report
from benchmarks.cpu import minis
from benchmarks.cpu.child import load_libraries, status
from benchmarks.cpu.processes import python
from benchmarks.results import OURS, PEER, RESULTS, Peer, Row, as_part, load_results, raced, save_results, write
from benchmarks.timing import race
from hunyuan_video.flow import FlowObjective

BATCHES = {"mini": (("small", 2), ("large", 1)), "quick": (("small", 2),)}
COMPARED = 4  # first steps whose losses are printed


class Loop:
    """One side's training of a transformer."""

    def __init__(self, folder: Path, scale: minis.Scale, side: str, which: str, batch: int):
        self.side = side
        self.model: nn.Module = minis.load(folder, "transformer", side, "float32").train().requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.objective = FlowObjective()
        self.latents = minis.latents(scale, getattr(scale, which)).repeat(batch, 1, 1, 1, 1)
        text = minis.prompt(scale, scale.words)
        self.text, self.mask, self.pooled = (text[k].repeat_interleave(batch, 0) for k in ("text", "mask", "pooled"))
        self.guidance = torch.full((batch,), 6000.0) if scale.transformer.guidance_embed else None
        self.steps = 0
        self.losses: list[float] = []

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        if self.side == OURS:
            return self.model(
                x, timestep, text=self.text, text_mask=self.mask, pooled_text=self.pooled, guidance=self.guidance
            )
        return self.model(
            hidden_states=x, timestep=timestep, encoder_hidden_states=self.text, encoder_attention_mask=self.mask,
            pooled_projections=self.pooled, guidance=self.guidance, return_dict=False,
        )[0]  # fmt: skip

    def step(self) -> None:
        batch = self.objective.draw(self.latents, torch.Generator().manual_seed(self.steps))
        with torch.autocast("cpu", torch.bfloat16):
            velocity = self.forward(batch.latents, batch.timesteps)
        loss = self.objective.loss(velocity.float(), batch)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        self.losses.append(loss.item())


def speeds(scale_name: str, rounds: int) -> Iterator[tuple[Row, dict[str, list[float]]]]:
    """Time of a step for every batch, and the first losses of each side."""
    scale = minis.SCALES[scale_name]
    with minis.saved(minis.transformer(scale.transformer)) as folder:
        for which, batch in BATCHES[scale_name]:
            loops = {side: Loop(folder, scale, side, which, batch) for side in (OURS, PEER)}
            runs: dict[str, Callable[[], Any]] = {side: loop.step for side, loop in loops.items()}
            times, _ = race(runs, seconds=60.0, rounds=(rounds, rounds))
            first = {side: loop.losses[:COMPARED] for side, loop in loops.items()}
            gap = max(abs(a - b) / b for a, b in zip(first[OURS], first[PEER], strict=True))
            yield raced("training step", size_of(scale, which, batch), "bfloat16", times, {OURS: gap}), first


def size_of(scale: minis.Scale, which: str, batch: int) -> str:
    frames, height, width = getattr(scale, which).latent
    return f"{batch} x {frames * height * width // 4 + scale.text} tokens"


def peaks(scale_name: str) -> Iterator[Row]:
    """Peak memory above the imports of each side, alone in a process, after two steps."""
    scale = minis.SCALES[scale_name]
    with minis.saved(minis.transformer(scale.transformer)) as folder:
        for which, batch in BATCHES[scale_name]:
            used = {}
            for side in (OURS, PEER):
                arguments = (str(folder), scale_name, side, which, str(batch))
                peak = json.loads(python("-m", "benchmarks.cpu.training", "--peak", *arguments).splitlines()[-1])
                used[side] = (peak["peak"] - peak["baseline"]) / 1e9
            row = Row("training step", size_of(scale, which, batch), "bfloat16", memory_gb=used[OURS])
            row.peers[PEER] = Peer(memory_gb=used[PEER])
            yield row


def measure_peak(folder: str, scale_name: str, side: str, which: str, batch: str) -> None:
    load_libraries(side)
    baseline = status("VmRSS")
    loop = Loop(Path(folder), minis.SCALES[scale_name], side, which, int(batch))
    for _ in range(2):
        loop.step()
    print(json.dumps({"baseline": baseline, "peak": status("VmHWM")}))


def text_of(timed: Sequence[tuple[Row, dict[str, list[float]]]], memory: Sequence[Row]) -> str:
    lines = ["# Training step beside diffusers", "", report.comparison([row for row, _ in timed]), ""]
    lines += ["The error is the largest relative difference of the first losses.", ""]
    for row, losses in timed:
        for side, taken in ((OURS, row), (PEER, row.peers[PEER])):
            shown = ", ".join(f"{loss:.5f}" for loss in losses[side])
            speed = 1e3 * int(row.shape.split(" x ")[0]) / (taken.ms or float("nan"))
            lines.append(f"- {row.shape}, {side}: {speed:.2f} samples/s; first losses {shown}")
    return "\n".join([*lines, "", "## Peak memory above the imported libraries", "", report.comparison(memory), ""])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny models: checks that it runs")
    parser.add_argument("--rounds", type=int, default=5, help="counted steps of each side")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.peak:
        measure_peak(*args.peak)
        return
    scale = "quick" if args.quick else "mini"
    before = machine.load()
    timed = list(speeds(scale, args.rounds))
    memory = list(peaks(scale))
    text = text_of(timed, memory)
    print(text)
    path = args.output / f"training-{machine.slug()}.json"
    stored = load_results(path)
    stored["machine"] = machine.machine_facts()
    about = {**machine.part_facts(), "load_before": before, "load_after": machine.load()}
    losses = {row.shape: of_sides for row, of_sides in timed}
    stored["parts"] = {"training": as_part([*(row for row, _ in timed), *memory], losses=losses, **about)}
    save_results(path, stored)
    write(path.with_suffix(".md"), text)


if __name__ == "__main__":
    main()
