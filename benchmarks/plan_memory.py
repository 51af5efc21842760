"""Resident memory of `sample` beside its plan, on this CPU: six configurations, each in a process of its own.

    python -m benchmarks.plan_memory [--write FILE.json]

The bundled model, and one of 277 M random weights with the bundled encoders and VAE. Measured is the most memory that
the process held at once (VmHWM of /proc/self/status); the plan is made beforehand, from the configs alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MEDIUM = {"hidden_size": 1024, "num_heads": 8, "double_blocks": 4, "single_blocks": 8, "guidance_embed": False}
CASES = (
    ("tiny", "17x256x256", "float32", 1.0),
    ("tiny", "33x256x256", "float32", 1.0),
    ("tiny", "17x384x384", "bfloat16", 1.0),
    ("277M", "5x64x64", "float32", 1.0),
    ("277M", "17x256x256", "bfloat16", 1.0),
    ("277M", "17x128x128", "float32", 3.0),
)
RUN = """
import sys
from hunyuan_video.cli.entry import main
from hunyuan_video.planning.budget import most_resident
code = main(sys.argv[1:])
print("resident", most_resident())
sys.exit(code)
"""


def medium_checkpoint(folder: Path) -> Path:
    """The model of MEDIUM's sizes with random weights in bfloat16, with the bundled model's other parts."""
    import torch

    from hunyuan_video.checkpoints.layout import BUNDLED
    from hunyuan_video.checkpoints.locate import open_checkpoint
    from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig

    bundled = open_checkpoint(BUNDLED["tiny"], "transformer").config
    assert isinstance(bundled, TransformerConfig)
    shutil.copytree(BUNDLED["tiny"], folder, ignore=shutil.ignore_patterns("transformer", "adapters"))
    settings = json.loads((folder / "sampling.json").read_text())
    kept = {name: value for name, value in settings.items() if name not in ("adapter", "adapters")}
    (folder / "sampling.json").write_text(json.dumps(kept))
    channels = {"in_channels": bundled.in_channels, "out_channels": bundled.out_channels}
    text = {"text_dim": bundled.text_dim, "pooled_text_dim": bundled.pooled_text_dim}
    model = HunyuanVideoTransformer(TransformerConfig(**MEDIUM, **channels, **text)).to(torch.bfloat16)
    model.save_pretrained(folder / "transformer")
    return folder


def measured(arguments: list[str], folder: Path) -> int:
    command = [sys.executable, "-c", RUN, "sample", "a red circle", *arguments, "-o", str(folder / "out.mp4")]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stderr)
    return int(result.stdout.split("resident")[1])


def main() -> None:
    from hunyuan_video.cli.entry import build_parser
    from hunyuan_video.cli.options import torch_dtype
    from hunyuan_video.sampling.planned import plan_sampling

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", metavar="FILE")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {"tiny": "tiny", "277M": str(medium_checkpoint(folder / "medium"))}
        for model, size, dtype, guidance in CASES:
            frames, height, width = size.split("x")
            flags = ["--model", models[model], "--num-frames", frames, "--height", height, "--width", width]
            flags += ["--dtype", dtype, "--true-cfg-scale", str(guidance), "--num-inference-steps", "2"]
            given = vars(build_parser().parse_args(["plan", *flags]))
            plan = plan_sampling(models[model], given, device="cpu", dtype=torch_dtype(dtype))
            peak = measured([*flags, "--device", "cpu"], folder)
            row = {"model": model, "size": size, "dtype": dtype, "true_cfg_scale": guidance, "measured": peak}
            row["planned"] = plan.host_peak_bytes
            row["stages"] = {stage.name: stage.host_bytes for stage in plan.stages}
            rows.append(row)
            print(f"{model:5} {size:11} {dtype:9} planned {plan.host_peak_bytes / 1e6:7.0f} MB, measured "
                  f"{peak / 1e6:7.0f} MB, {plan.host_peak_bytes / peak - 1:+.1%}", flush=True)  # fmt: skip
    if args.write:
        Path(args.write).write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
