"""The tables of recipes/tiny/README.md: prompt following of the bundled models and of the other distilled ones.

    python recipes/tiny/evaluate.py [--runs runs/tiny] [--prompts 200] [--only TEXT] [-o recipes/tiny/distillation.json]

Each row samples the same held-out prompts (seed 2026) from the same seeds, in float32, through the pipeline that
`hunyuan-video eval` uses. Rows of models that are not in the bundle need their runs; without them they are left out.
With --only TEXT, rows whose name has it; the others stay in the output file as they are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.checkpoints.layout import checkpoint_folder
from hunyuan_video.checkpoints.pipeline import read_sampling_json
from hunyuan_video.evaluation.prompt_following import as_markdown, pipeline_generator, prompt_following
from hunyuan_video.files import write_json
from hunyuan_video.models import HunyuanVideoTransformer

SEED = 2026
BUNDLE = "tiny"


class Row(NamedTuple):
    name: str
    settings: dict[str, Any]  # of a call; what is left out is the checkpoint's default
    adapter: str | None = "none"  # as in `from_pretrained`
    transformer: str = ""  # a folder within the runs, in the place of the bundled transformer


def teacher(steps: int, scale: float, shift: float = 1.0) -> dict[str, Any]:
    return {"num_inference_steps": steps, "true_cfg_scale": scale, "flow_shift": shift}


def guided(steps: int) -> dict[str, Any]:
    return {"num_inference_steps": steps, "true_cfg_scale": 1.0, "guidance_scale": 3.0}


CONSISTENCY = "distill_consistency/export/few_step.safetensors"
GUIDANCE = "guidance/export"
ROWS = (
    Row("teacher, 50 Euler steps, guidance 3", teacher(50, 3.0)),
    Row("teacher, 4 Euler steps, guidance 3", teacher(4, 3.0)),
    Row("teacher, 2 Euler steps, guidance 3", teacher(2, 3.0)),
    Row("teacher, 4 Euler steps, no guidance", teacher(4, 1.0)),
    Row("teacher, 4 Euler steps, no guidance, shift 3", teacher(4, 1.0, 3.0)),
    Row("consistency student, 4 Euler steps", {**teacher(4, 1.0, 3.0), "solver": "euler"}, CONSISTENCY),
    Row("DMD student, 4 steps (bundled)", {}, None),
    Row("guidance student, 30 Euler steps, w = 3", guided(30), transformer=GUIDANCE),
    Row("guidance student, 4 Euler steps, w = 3", guided(4), transformer=GUIDANCE),
)


def rows(runs: Path, only: str) -> Iterator[tuple[Row, HunyuanVideoPipeline]]:
    """Rows whose models are there, with their pipelines."""
    for row in (row for row in ROWS if only in row.name):
        adapter = row.adapter
        needed = row.transformer or (adapter if adapter and adapter.endswith(".safetensors") else "")
        if needed and not (runs / needed).exists():
            print(f"left out: {row.name} ({runs / needed} is not there)")
            continue
        adapter = str(runs / adapter) if adapter and needed == adapter else adapter
        pipe = HunyuanVideoPipeline.from_pretrained(BUNDLE, adapter=adapter)
        if row.transformer:
            pipe.transformer = HunyuanVideoTransformer.from_pretrained(
                runs / row.transformer, dtype=pipe.transformer.dtype
            )
            pipe.transformer.eval()
        yield row, pipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/tiny"), help="the outputs of recipes/tiny/all.yaml")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name has this")
    parser.add_argument("-o", "--output", type=Path, help="write the table as JSON")
    args = parser.parse_args()
    facts = read_sampling_json(checkpoint_folder(BUNDLE))
    table = {}
    if args.only and args.output and args.output.exists():
        table = json.loads(args.output.read_text())["table"]
    for row, pipe in rows(args.runs, args.only):
        generate = pipeline_generator(pipe, **row.settings)
        found = prompt_following(generate, facts["world"], args.prompts, seed=SEED, trained_on=facts["training"])
        table[row.name] = found.table["generated"]
        print(as_markdown({row.name: found.table["generated"]}).splitlines()[-1], flush=True)
    if args.output:
        facts = {"prompts": args.prompts, "seed": SEED, "world": facts["world"], "trained_on": facts["training"]}
        table = {row.name: table[row.name] for row in ROWS if row.name in table}
        write_json(args.output, {**facts, "precision": "float32", "table": table})


if __name__ == "__main__":
    main()
