"""Claims of the paper that sampling alone tests, on the bundled checkpoint.

    python recipes/evidence/sampling.py schedule -o recipes/evidence/results/schedule.json
    python recipes/evidence/sampling.py guidance -o recipes/evidence/results/guidance.json [--distilled FOLDER]

schedule: ten Euler steps of the teacher (guidance 3) by timestep shifts and by the linear-quadratic schedule.
guidance: two passes a step against one, in 30 and in 4 steps. --distilled: the result of recipes/tiny/guidance.yaml.

Each arm makes the same held-out prompts from the same noise. Judged are all attributes of the prompt (shares, intervals
of Agresti and Min over pairs) and, for `schedule`, how far a clip is from that of 50 even steps from the same noise
(PSNR of the pixels; Student's t over pairs). Rows are kept in RUNS after every batch: a run that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.checkpoints.layout import checkpoint_folder
from hunyuan_video.checkpoints.pipeline import read_sampling_json
from hunyuan_video.data.toyworld import WORLDS
from hunyuan_video.evaluation.intervals import wilson
from hunyuan_video.evaluation.paired import paired_shares, paired_values
from hunyuan_video.evaluation.prompt_following import held_out_prompts, psnr
from hunyuan_video.evaluation.side_by_side import followed
from hunyuan_video.files import write_json
from hunyuan_video.models import HunyuanVideoTransformer

SEED = 2026
BATCH = 10
POPULATION = "new prompts of this kind and their noise, with these weights: one training an arm"


@dataclass(frozen=True)
class Arm:
    """A way to sample. adapter: "none" is the teacher, None the checkpoint's own student."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    adapter: str | None = "none"
    transformer: str | None = None  # a folder in the place of the bundled one


def linear_quadratic(steps: int, fine: int) -> list[float]:
    """Noise levels, the last one (0) left out: half of the steps 1 / fine long, then a parabola of that slope to 0."""
    half = steps // 2
    rest = steps - half
    bend = (1 - (half + rest) / fine) / rest**2
    gone = [i / fine for i in range(half)] + [(half + i) / fine + bend * i * i for i in range(rest)]
    return [1 - value for value in gone]


def schedule_arms() -> tuple[Arm, ...]:
    """The first arm is what the others are measured against, the last is the reference of PSNR."""
    ten = {"num_inference_steps": 10, "true_cfg_scale": 3.0}
    shifts = [Arm(f"shift {shift:g}", {**ten, "flow_shift": shift}) for shift in (7.0, 1.0, 3.0, 17.0)]
    quadratic = [
        Arm(f"linear-quadratic, N = {fine}", {"sigmas": linear_quadratic(10, fine), "true_cfg_scale": 3.0})
        for fine in (250, 40)
    ]
    last = Arm("50 even steps", {"num_inference_steps": 50, "true_cfg_scale": 3.0, "flow_shift": 1.0})
    return (*shifts, *quadratic, last)


def guidance_arms(distilled: str | None) -> tuple[Arm, ...]:
    """The first arm is what the others are measured against."""
    arms = [
        Arm(f"{steps} steps, {name}", {"num_inference_steps": steps, "true_cfg_scale": scale, "flow_shift": 1.0})
        for steps in (30, 4)
        for name, scale in (("guidance 3: two passes", 3.0), ("no guidance: one pass", 1.0))
    ]
    arms.append(Arm("4 steps, the bundled student: one pass", {}, None))
    if distilled:
        guided = {"true_cfg_scale": 1.0, "guidance_scale": 3.0, "flow_shift": 1.0}
        arms += [
            Arm(
                f"{steps} steps, distilled guidance 3: one pass",
                {**guided, "num_inference_steps": steps},
                "none",
                distilled,
            )
            for steps in (30, 4)
        ]
    return tuple(arms)


def pipeline_of(arm: Arm) -> HunyuanVideoPipeline:
    pipe = HunyuanVideoPipeline.from_pretrained("tiny", adapter=arm.adapter)
    if arm.transformer:
        pipe.transformer = HunyuanVideoTransformer.from_pretrained(arm.transformer, dtype=pipe.transformer.dtype).eval()
    return pipe


def measured(arms: tuple[Arm, ...], prompts: list[str], world: str, runs: Path, reference: bool) -> list[list[dict]]:
    """For each arm a row a prompt: {"all": followed, ..., "psnr": to the last arm, "seconds": CPU of denoising}."""
    runs.mkdir(parents=True, exist_ok=True)
    pipes = [pipeline_of(arm) for arm in arms]
    rows: list[list[dict]] = [[] for _ in arms]
    for start in range(0, len(prompts), BATCH):
        texts = prompts[start : start + BATCH]
        kept = runs / f"{start}.json"
        wanted = [asdict(arm) for arm in arms]
        found = json.loads(kept.read_text()) if kept.exists() else None
        if found is None or found["arms"] != wanted or found["prompts"] != texts:
            found = {"arms": wanted, "prompts": texts, "rows": _batch(arms, pipes, texts, start, world, reference)}
            write_json(kept, found)
        for own, new in zip(rows, found["rows"], strict=True):
            own += new
        print(f"{start + len(texts)} of {len(prompts)}", flush=True)
    return rows


def _batch(
    arms: tuple[Arm, ...], pipes: list[HunyuanVideoPipeline], texts: list[str], start: int, world: str, reference: bool
) -> list[list[dict]]:
    clips, seconds = [], []
    for arm, pipe in zip(arms, pipes, strict=True):
        seeds = [SEED + start + i for i in range(len(texts))]
        began = time.process_time()
        latents = pipe(texts, seed=seeds, batch_size=len(texts), output_type="latent", **arm.settings).frames
        seconds.append((time.process_time() - began) / len(texts))
        clips.append(torch.from_numpy(np.asarray(pipe.decode(latents))))
    rows = []
    for own, took in zip(clips, seconds, strict=True):
        seen = [followed(clip, text, WORLDS[world]) for clip, text in zip(own, texts, strict=True)]
        near = psnr(own, clips[-1]).tolist() if reference else []
        rows.append([{**row, **({"psnr": near[i]} if near else {}), "seconds": took} for i, row in enumerate(seen)])
    return rows


def table(arms: tuple[Arm, ...], rows: list[list[dict]], reference: bool) -> list[dict[str, Any]]:
    """A line an arm, with differences to the first arm over the same prompts."""
    lines = []
    for arm, own in zip(arms, rows, strict=True):
        right = [bool(row["all"]) for row in own]
        share = sum(right) / len(right)
        low, high = wilson(share, len(right))
        line: dict[str, Any] = {"arm": arm.name, "followed": {"value": share, "low": low, "high": high}}
        line["seconds"] = min(row["seconds"] for row in own)
        if own is not rows[0]:
            line["followed - first"] = _short(paired_shares([bool(row["all"]) for row in rows[0]], right))
        if reference and own is not rows[-1]:
            line["psnr"] = float(np.mean([row["psnr"] for row in own]))
            if own is not rows[0]:
                pair = paired_values([row["psnr"] for row in rows[0]], [row["psnr"] for row in own], 0.5)
                line["psnr - first"] = _short(pair)
        lines.append(line)
    return lines


def _short(pair: Any) -> dict[str, Any]:
    return {name: getattr(pair, name) for name in ("difference", "low", "high", "smallest_visible", "verdict")}


def as_markdown(lines: list[dict[str, Any]]) -> str:
    """The table, with the CPU time of denoising as a multiple of the least."""
    least = min(line["seconds"] for line in lines)
    text = [
        "| arm | all followed | beside the first | CPU time | PSNR to 50 steps | beside the first |",
        "|---" * 6 + "|",
    ]
    for line in lines:
        followed_cell = (
            f"{line['followed']['value']:.3f} ({line['followed']['low']:.3f} to {line['followed']['high']:.3f})"
        )
        cells = [line["arm"], followed_cell, _cell(line.get("followed - first"), 3), f"{line['seconds'] / least:.2f}"]
        cells += [f"{line['psnr']:.2f}" if "psnr" in line else "", _cell(line.get("psnr - first"), 2)]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def _cell(pair: dict[str, Any] | None, digits: int) -> str:
    if pair is None:
        return ""
    d = f"+.{digits}f"
    return f"{pair['difference']:{d}} ({pair['low']:{d}} to {pair['high']:{d}}): {pair['verdict']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claim", choices=("schedule", "guidance"))
    parser.add_argument("--prompts", type=int, default=100, help="fixed beforehand (default: 100)")
    parser.add_argument("--distilled", metavar="FOLDER", help="a transformer that takes the guidance scale as an input")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/evidence"), help="what is kept of a run that was killed"
    )
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    checkpoint = read_sampling_json(checkpoint_folder("tiny"))
    _, prompts = held_out_prompts(checkpoint["world"], args.prompts, SEED, trained_on=checkpoint["training"])
    reference = args.claim == "schedule"
    arms = schedule_arms() if reference else guidance_arms(args.distilled)
    rows = measured(arms, prompts, checkpoint["world"], args.runs / args.claim, reference)
    lines = table(arms, rows, reference)
    print(as_markdown(lines))
    if args.output:
        report = {"claim": args.claim, "prompts": args.prompts, "seed": SEED, "population": POPULATION}
        report |= {"threads": torch.get_num_threads(), "load": os.getloadavg()[0], "precision": "float32"}
        write_json(args.output, {**report, "table": lines})


if __name__ == "__main__":
    main()
