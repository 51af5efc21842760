"""Peak memory of one side at one task, alone in its process: python -m benchmarks.peak TASK SIDE FOLDER SCALE VIDEO

Prints a JSON object: baseline (resident bytes after the imports) and peak, which includes the weights.
"""

from __future__ import annotations

import gc
import json
import re
import sys
from pathlib import Path

import torch

from benchmarks import minis
from benchmarks.results import OURS
from benchmarks.tasks import diffusers_pipeline, pipeline_runs, vae_run

DTYPE = "bfloat16"


def status(key: str) -> int:
    """Bytes of a line of /proc/self/status: VmRSS, resident now; VmHWM, the most that ever was."""
    found = re.search(rf"^{key}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    if found is None:
        raise RuntimeError(f"this system does not tell {key}; peak memory is measured on Linux only")
    return 1024 * int(found[1])


def load_libraries(side: str) -> None:
    """What a side needs before it loads weights."""
    if side != OURS:
        from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoPipeline  # noqa: F401
    torch.nn.functional.conv3d(torch.zeros(1, 1, 3, 3, 3), torch.zeros(1, 1, 3, 3, 3))
    gc.collect()


@torch.no_grad()
def main(task: str, side: str, folder: str, scale_name: str, which: str) -> None:
    load_libraries(side)
    baseline = status("VmRSS")
    scale, root = minis.SCALES[scale_name], Path(folder)
    video = getattr(scale, which)
    if task == "VAE decode":
        model = minis.load(root, "vae", side, DTYPE)
        vae_run(model, side, minis.latents(scale, video).to(getattr(torch, DTYPE)))()
    elif side == OURS:
        from hunyuan_video import HunyuanVideoPipeline

        pipe = HunyuanVideoPipeline(*(minis.load(root, kind, side, DTYPE) for kind in ("transformer", "vae")))
        pipeline_runs(scale, pipe, None, video, DTYPE)[side]()
    else:
        pipe = diffusers_pipeline(root, DTYPE)
        pipeline_runs(scale, None, pipe, video, DTYPE)[side]()
    print(json.dumps({"baseline": baseline, "peak": status("VmHWM")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
