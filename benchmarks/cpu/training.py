"""Training steps of this package's transformer and of diffusers' in the same loop, as ratios:

    python -m benchmarks.cpu.training [--quick] [--rounds N] [--checks]

Same weights, batch, noise, loss (flow matching), fused AdamW, bfloat16 autocast with float32 weights; forward, backward
and update alternate in one process. Peak memory: each side alone in its own process. The losses of the first steps are
printed beside each other: a speed at another loss would say nothing.

--checks: what the checks for values that are not finite, and for changed weights, cost of a sample of the bundled model
and of a step of its fine-tuning: the same build with and without them, in turn, in processor time of one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

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


class Checks:
    """The checks of samples and training steps: as they are, timed, or switched off."""

    def __init__(self) -> None:
        from hunyuan_video.data import latent_dataset
        from hunyuan_video.media import pixels
        from hunyuan_video.models.vae import upsample
        from hunyuan_video.sampling import decode
        from hunyuan_video.training import loop, parallelize

        class Math:
            isfinite = staticmethod(lambda number: True)
            nan = float("nan")

        self.seconds = 0.0
        self.off = {
            (decode, "check_finite"): lambda *_: None, (pixels, "check_finite"): lambda *_: None,
            (upsample, "_same_bits"): lambda *_: True, (latent_dataset, "unstorable"): lambda *_: "",
            (loop, "math"): Math, (parallelize, "math"): Math,
        }  # fmt: skip

    @contextmanager
    def way(self, name: str) -> Iterator[None]:
        """name: "on", "off" or "timed", which adds to `seconds`."""
        with ExitStack() as changes:
            for (module, attribute), without in self.off.items():
                if name == "off":
                    changes.enter_context(mock.patch.object(module, attribute, without))
                elif name == "timed" and attribute != "math":  # of numbers: below a microsecond
                    changes.enter_context(mock.patch.object(module, attribute, self._timed(getattr(module, attribute))))
            yield

    def _timed(self, check: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            begin = time.thread_time()
            result = check(*arguments)
            self.seconds += time.thread_time() - begin
            return result

        return call


class Shares:
    """Smallest processor times of a call with and without checks, and the mean of the checks themselves."""

    def __init__(self, checks: Checks):
        self.checks = checks
        self.taken: dict[str, list[float]] = {"on": [], "off": [], "timed": []}
        self.inside: list[float] = []

    def call(self, run: Callable[[], Any]) -> Any:
        """One call, in the way whose turn it is."""
        name = min(self.taken, key=lambda name: len(self.taken[name]))
        self.checks.seconds = 0.0
        with self.checks.way(name):
            begin = time.process_time()
            result = run()
            self.taken[name].append(time.process_time() - begin)
        if name == "timed":
            self.inside.append(self.checks.seconds)
        return result

    def result(self) -> dict[str, float]:
        """Milliseconds (minima after the first call of each way; inside the checks: the mean), shares in percent."""
        on, off = (1e3 * min(self.taken[name][1:]) for name in ("on", "off"))
        inside = 1e3 * sum(self.inside[1:]) / len(self.inside[1:])
        return {
            "rounds": len(self.inside) - 1, "with_ms": on, "without_ms": off, "inside_checks_ms": inside,
            "difference_percent": 100 * (on / off - 1), "share_percent": 100 * inside / on,
        }  # fmt: skip


def check_costs(rounds: int) -> dict[str, dict[str, float]]:
    """Cost of the checks of a sample (4 steps, 17 x 64 x 64) and of a training step of the bundled model."""
    from hunyuan_video import HunyuanVideoPipeline
    from hunyuan_video.checkpoints.layout import BUNDLED
    from hunyuan_video.cli import main as command
    from hunyuan_video.training import loop
    from hunyuan_video.training.api import train

    torch.set_num_threads(1)
    checks = Checks()
    sample, step = Shares(checks), Shares(checks)
    pipe = HunyuanVideoPipeline.from_pretrained("tiny", device="cpu")
    for _ in range(3 * (rounds + 1)):
        sample.call(lambda: pipe("a red star moves up", seed=1, num_frames=17, height=64, width=64))
    with tempfile.TemporaryDirectory() as folder:
        data, config = Path(folder, "data"), Path(folder, "run.yaml")
        command(["encode", "toyworld:narrow", "-o", str(data), "--bucket", "17x64x64", "--clips", "8"])
        settings = {"kind": "flow_encoded", "data": str(data), "checkpoint": "tiny", "held_out": 1, "sample_steps": 1,
                    "init_from": str(BUNDLED["tiny"] / "transformer"), "output": f"{folder}/run", "workers": 1,
                    "loop": {"steps": 3 * (rounds + 1), "batch": 4, "save_every": 10**6, "sheet_every": 0, "threads": 1,
                             "precision": "fp32"}}  # fmt: skip
        config.write_text(json.dumps(settings))
        whole_step = loop.Trainer.step
        with mock.patch.object(loop.Trainer, "step", lambda self, n: step.call(lambda: whole_step(self, n))):
            train(config)
    return {"sample": sample.result(), "training step": step.result()}


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
    parser.add_argument("--checks", action="store_true", help="measure the checks instead")
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.peak:
        measure_peak(*args.peak)
        return
    if args.checks:
        before = machine.load()
        costs = check_costs(args.rounds)
        path = args.output / f"checks-{machine.slug()}.json"
        about = {"machine": machine.machine_facts(), "load_before": before, "load_after": machine.load()}
        write(path, json.dumps({**costs, **about}, indent=1) + "\n")
        print(json.dumps(costs, indent=1))
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
