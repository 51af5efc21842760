"""Training steps of this package's transformer and of diffusers' in the same loop, as ratios:

    python benchmarks/training.py [--quick] [--rounds N]

Same weights, batch, noise, loss (flow matching), fused AdamW, bfloat16 autocast with float32 weights; forward, backward
and update alternate in one process. Peak memory: each side alone in its own process. The losses of the first steps are
printed beside each other: a speed at another loss would say nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from benchmarks import machine, minis
from benchmarks.peak import load_libraries, status
from benchmarks.results import (
    OURS,
    PEER,
    RESULTS,
    Measurement,
    as_section,
    comparison,
    load_results,
    save_results,
    write,
)
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


def speeds(scale_name: str, rounds: int) -> Iterator[tuple[Measurement, list[float]]]:
    """Seconds of a step for every batch and side, and the first losses of that side."""
    scale = minis.SCALES[scale_name]
    with minis.saved(minis.transformer(scale.transformer)) as folder:
        for which, batch in BATCHES[scale_name]:
            loops = {side: Loop(folder, scale, side, which, batch) for side in (OURS, PEER)}
            runs: dict[str, Callable[[], Any]] = {side: loop.step for side, loop in loops.items()}
            times, _ = race(runs, seconds=60.0, rounds=(rounds, rounds))
            first = {side: loop.losses[:COMPARED] for side, loop in loops.items()}
            gap = max(abs(a - b) / b for a, b in zip(first[OURS], first[PEER], strict=True))
            for side, time in times.items():
                size = size_of(scale, which, batch)
                yield Measurement.timed("training step", size, "bfloat16", side, time, gap), first[side]


def size_of(scale: minis.Scale, which: str, batch: int) -> str:
    frames, height, width = getattr(scale, which).latent
    return f"{batch} x {frames * height * width // 4 + scale.text} tokens"


def peaks(scale_name: str) -> Iterator[Measurement]:
    """Peak memory above the imports of each side, alone in a process, after two steps."""
    scale = minis.SCALES[scale_name]
    with minis.saved(minis.transformer(scale.transformer)) as folder:
        for which, batch in BATCHES[scale_name]:
            for side in (OURS, PEER):
                command = [sys.executable, __file__, "--peak", str(folder), scale_name, side, which, str(batch)]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found = json.loads(out.splitlines()[-1])
                size = size_of(scale, which, batch)
                used = float(found["peak"] - found["baseline"])
                yield Measurement("training step", size, "bfloat16", side, "bytes", used, used, 1)


def measure_peak(folder: str, scale_name: str, side: str, which: str, batch: str) -> None:
    load_libraries(side)
    baseline = status("VmRSS")
    loop = Loop(Path(folder), minis.SCALES[scale_name], side, which, int(batch))
    for _ in range(2):
        loop.step()
    print(json.dumps({"baseline": baseline, "peak": status("VmHWM")}))


def samples_per_second(one: Measurement) -> float:
    return int(one.size.split(" x ")[0]) / one.median


def report(timed: Sequence[tuple[Measurement, list[float]]], memory: Sequence[Measurement]) -> str:
    lines = ["# Training step beside diffusers", "", comparison([one for one, _ in timed]), ""]
    lines += ["The difference is the largest of the first losses, relative.", ""]
    for one, losses in timed:
        shown = ", ".join(f"{loss:.5f}" for loss in losses)
        lines.append(f"- {one.size}, {one.contender}: {samples_per_second(one):.2f} samples/s; first losses {shown}")
    return "\n".join([*lines, "", "## Peak memory above the imported libraries", "", comparison(memory), ""])


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
    text = report(timed, memory)
    print(text)
    path = args.output / f"training-{machine.slug()}.json"
    results = load_results(path)
    results["machine"] = machine.machine_facts()
    facts = {**machine.section_facts(), "load_before": before, "load_after": machine.load()}
    measured = [*(replace(one) for one, _ in timed), *memory]
    results["sections"] = {"training": as_section(measured, losses={o.contender: v for o, v in timed}, **facts)}
    save_results(path, results)
    write(path.with_suffix(".md"), text)


if __name__ == "__main__":
    main()
