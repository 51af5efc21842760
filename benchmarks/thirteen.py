"""The 13B model within a limit of host memory, on a CPU: plan and measured peak side by side.

    python -m benchmarks.thirteen [--folder FOLDER] [--host-memory 8GB] [--write FILE.json]

Writes a checkpoint of the released sizes in official layout (FP8 blocks with scales, 13 GB in shards; a VAE) with
random weights, deletes it afterwards, and samples a small video of two steps from given embeddings, block by block, in
a process of its own. The weights of all layers are cut from one table of normal numbers, with scales of their own: it
shows that the model loads, streams and runs, not what it makes.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZE = {"num_frames": 5, "height": 64, "width": 64, "num_inference_steps": 2}
SHARD = 3_000_000_000
RUN = """
import json, sys, time
import torch
from hunyuan_video.planning.budget import most_resident
from hunyuan_video.sampling import HunyuanVideoPipeline, PromptEmbeds
from hunyuan_video.sampling.opening import open_models
from hunyuan_video.sampling.planned import plan_sampling
folder, limit, size = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
plan = plan_sampling(folder, size, device="cpu", dtype=torch.bfloat16, host_memory=limit, encodes=False)
start = time.perf_counter()
parts = "transformer", "vae"
models = open_models(folder, dtype=torch.bfloat16, device="cpu", parts=parts, host_memory=limit, plan=plan)
loaded = time.perf_counter() - start
torch.manual_seed(0)
embeds = PromptEmbeds(torch.randn(1, 16, 4096), torch.ones(1, 16, dtype=torch.int64), torch.randn(1, 768))
out = HunyuanVideoPipeline.over(models)(prompt_embeds=embeds, seed=1, **size)
print("RESULT " + json.dumps({
    "plan": plan.as_dict(), "most_resident": most_resident(), "seconds_to_open": loaded,
    "seconds": time.perf_counter() - start, "frames": list(out.frames.shape), "mean": float(out.frames.mean()),
    "deviation": float(out.latents.std()),
}))
"""


def write_transformer(folder: Path) -> int:
    """The shards and their index; the bytes that were written."""
    import torch

    from hunyuan_video.checkpoints.fp8 import model_source
    from hunyuan_video.checkpoints.safetensors_file import write_safetensors
    from hunyuan_video.models import TransformerConfig
    from hunyuan_video.planning.sizes import empty_transformer

    infos = model_source(empty_transformer(TransformerConfig(), "fp8", torch.bfloat16)).infos
    torch.manual_seed(0)
    wide = torch.randn(1 << 26)
    tables = {
        torch.bfloat16: (0.02 * wide).to(torch.bfloat16),
        torch.float8_e4m3fn: (64 * wide).to(torch.float8_e4m3fn),
    }

    def produce(name: str) -> torch.Tensor:
        info = infos[name]
        if info.dtype == torch.float32:  # scales of rows
            return torch.full(info.shape, 0.02 / 64)
        if "norm" in name and name.endswith("weight"):
            return torch.ones(info.shape, dtype=info.dtype)
        table = tables[info.dtype]
        parts = [table[: min(len(table), info.count - start)] for start in range(0, info.count, len(table))]
        return torch.cat(parts).view(info.shape)

    shards: list[list[str]] = [[]]
    held = total = 0
    for name, info in infos.items():
        if held + info.nbytes > SHARD:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held, total = held + info.nbytes, total + info.nbytes
    folder.mkdir(parents=True)
    files = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        files |= dict.fromkeys(names, file)
        with (folder / file).open("wb") as opened:
            write_safetensors(opened, {name: infos[name] for name in names}, produce)
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def write_checkpoint(root: Path) -> int:
    import torch

    from hunyuan_video.models import CausalVAE, VAEConfig

    total = write_transformer(root / "hunyuan-video-t2v-720p" / "transformers")
    torch.manual_seed(1)
    vae = CausalVAE(VAEConfig()).to(torch.float16)
    vae.save_pretrained(root / "hunyuan-video-t2v-720p" / "vae", layout="official")
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where the checkpoint is made; default a temporary folder")
    parser.add_argument("--host-memory", default="8GB")
    parser.add_argument("--write", metavar="FILE")
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="thirteen_", dir=args.folder))
    if shutil.disk_usage(root).free < 20e9:
        raise SystemExit(f"{root} has less than 20 GB free; name another --folder")
    try:
        start = time.perf_counter()
        written = write_checkpoint(root)
        print(f"{written / 1e9:.1f} GB written in {time.perf_counter() - start:.0f} s", flush=True)
        command = [sys.executable, "-c", RUN, str(root), args.host_memory, json.dumps(SIZE)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
    finally:
        shutil.rmtree(root)
    result = json.loads(done.stdout.split("RESULT ")[1])
    plan, peak = result["plan"], result["most_resident"]
    for stage in plan["stages"]:
        print(f"{stage['name']:18} planned {stage['host_bytes'] / 1e9:6.2f} GB")
    ratio = plan["host_peak_bytes"] / peak - 1
    planned = plan["host_peak_bytes"]
    print(f"limit {args.host_memory}, planned {planned / 1e9:.2f} GB, measured {peak / 1e9:.2f} GB, {ratio:+.1%}")
    print(f"opened in {result['seconds_to_open']:.0f} s, all in {result['seconds']:.0f} s, frames {result['frames']}")
    assert math.isfinite(result["deviation"])
    if args.write:
        plan["choices"]["model"] = "random 13B"
        values = {"limit": args.host_memory, "size": SIZE, "written_bytes": written, **result}
        Path(args.write).write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
