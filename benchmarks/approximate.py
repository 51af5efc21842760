"""Quality and time of fewer and cheaper steps on the bundled model, prompt by prompt beside the exact run.

    python -m benchmarks.approximate FILE.json [--prompts 24] [--minutes 4]

Every way makes the same prompts from the same noise, in turn; time is CPU time of a call, from the prompt to frames,
and of its steps alone, on one thread.
PSNR is against the model's exact run (50 steps of the teacher, 4 of its student). A run goes on where FILE ends, so it
can be made in pieces; each ends with the table so far.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

SEED = 2026
SIZE = {"size": 64, "num_frames": 17}
TEACHER: dict[str, dict[str, Any]] = {
    "50 steps": {},
    "cache first_block:0.06": {"cache": "first_block:0.06"},
    "cache first_block:0.15": {"cache": "first_block:0.15"},
    "cache linear:0.06": {"cache": "linear:0.06"},
    "cache linear:0.15": {"cache": "linear:0.15"},
    "attention sliding_tile": {"attention": "sliding_tile"},
    "25 steps": {"num_inference_steps": 25},
    "8 steps": {"num_inference_steps": 8},
    "8 steps, ab2": {"num_inference_steps": 8, "solver": "ab2"},
    "6 steps, ab2": {"num_inference_steps": 6, "solver": "ab2"},
    "5 steps, ab2": {"num_inference_steps": 5, "solver": "ab2"},
    "8 steps, ab2, cache linear:0.15": {"num_inference_steps": 8, "solver": "ab2", "cache": "linear:0.15"},
}
SLOW = {"attention sliding_tile": 3}  # prompts of a way that takes longer than the exact one, at this size
STUDENT: dict[str, dict[str, Any]] = {
    "student, 4 steps": {},
    "student, cache first_block:0.2": {"cache": "first_block:0.2"},
    "student, 3 steps": {"num_inference_steps": 3},
    "student, 2 steps": {"num_inference_steps": 2},
}


def compare(path: Path, count: int, minutes: float) -> dict[str, Any]:
    """Results so far: way -> per prompt seconds, columns that it concerns -> hit, PSNR; saved after every prompt."""
    import torch

    from hunyuan_video import HunyuanVideoPipeline
    from hunyuan_video.data.toyworld import hits, judge_clip
    from hunyuan_video.evaluation.prompt_following import held_out_prompts, psnr

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"seed": SEED, "ways": {}}
    scenes, prompts = held_out_prompts("narrow", count, SEED, trained_on={"seed": 1, "clips": 12288})
    pipes = {
        name: HunyuanVideoPipeline.from_pretrained("tiny", device="cpu", adapter=adapter)
        for name, adapter in (("teacher", "none"), ("student", "few_step"))
    }
    groups = (("teacher", TEACHER, {"num_inference_steps": 50}), ("student", STUDENT, {}))
    for pipe in pipes.values():
        pipe(prompts[0], seed=0, num_inference_steps=1)
    began = time.monotonic()
    done = len(next(iter(results["ways"].values()), []))
    for index in range(done, count):
        if time.monotonic() - began > 60 * minutes:
            break
        rows = {}
        for model, ways, common in groups:
            exact = None
            for name, arguments in ways.items():
                if index >= SLOW.get(name, count):
                    continue
                output, steps, seconds = timed(pipes[model], prompts[index], SEED + index, {**common, **arguments})
                frames = torch.from_numpy(output.frames)
                exact = frames if exact is None else exact
                judged = hits([judge_clip(frames[0], scenes[index])], [scenes[index]])
                followed = {column: shown[0] for column, shown in judged.items() if shown}
                rows[name] = {"steps": steps, "seconds": seconds, "hits": followed, "psnr": float(psnr(frames, exact))}
        for name, row in rows.items():
            results["ways"].setdefault(name, []).append(row)
        path.write_text(json.dumps(results))
    return results


def timed(pipe: Any, prompt: str, seed: int, arguments: dict[str, Any]) -> tuple[Any, float, float]:
    """Output of a call, CPU seconds of its steps, and of all of it."""
    from hunyuan_video.sampling import Finished

    started = time.process_time()
    stream = pipe.stream(prompt, seed=seed, **arguments)
    encoded = stepped = time.process_time()
    output = None
    for event in stream:
        if isinstance(event, Finished):
            output = event.output
        else:
            stepped = time.process_time()
    return output, stepped - encoded, time.process_time() - started


def as_table(results: dict[str, Any]) -> str:
    """One line a way: share of prompts followed in all attributes, difference in pairs, PSNR, and times faster."""
    from hunyuan_video.evaluation.intervals import wilson
    from hunyuan_video.evaluation.prompt_following import paired_difference

    teacher = results["ways"]["50 steps"]
    low, high = wilson(_share(teacher), len(teacher))
    lines = [
        f"{len(teacher)} prompts; 95 % interval of 50 steps: {low:.2f} to {high:.2f}",
        "| way | all | difference in pairs | attributes | PSNR, dB | steps | whole call |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in results["ways"].items():
        first = [row["hits"]["all"] for row in rows]
        beside = teacher[: len(rows)]
        difference, error = paired_difference(first, [row["hits"]["all"] for row in beside])
        single = [hit for row in rows for column, hit in row["hits"].items() if column not in ("all", "camera_moving")]
        decibels = sum(row["psnr"] for row in rows) / len(rows)
        lines.append(
            f"| {name} | {_share(rows):.2f} | {difference:+.2f} +- {error:.2f} | {sum(single) / len(single):.3f} | "
            f"{'equal' if decibels > 70 else f'{decibels:.1f}'} | {_faster(beside, rows, 'steps'):.2f}x | "
            f"{_faster(beside, rows, 'seconds'):.2f}x |"
        )
    return "\n".join(lines)


def _share(rows: list[dict[str, Any]]) -> float:
    return sum(row["hits"]["all"] for row in rows) / len(rows)


def _faster(slow: list[dict[str, Any]], fast: list[dict[str, Any]], part: str) -> float:
    return sum(row[part] for row in slow) / sum(row[part] for row in fast)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=4)
    args = parser.parse_args()
    print(as_table(compare(args.file, args.prompts, args.minutes)))


if __name__ == "__main__":
    main()
