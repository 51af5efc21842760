"""Memory of decoding a long clip: mode="exact" within its budget, plain mode beside it.

    python benchmarks/cpu/vae_memory.py [--frames 129] [--size 256] [--budget 1000000000] [--plain-frames 33 65 129]

Every decode runs in a process of its own, which reports its peak resident memory above that of the loaded model (Linux:
VmHWM, reset before the decode) and a sample of the pixels, so that equality is checked too. Random weights, random
latents, a VAE with 32 to 64 channels: about two minutes on two cores. Activations beyond the budget go to TMPDIR.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from hunyuan_video.models import CausalVAE, VAEConfig

CONFIG = VAEConfig(block_out_channels=(32, 32, 64, 64), layers_per_block=1, norm_groups=16)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
STATUS = Path("/proc/self/status")


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def latents_of(frames: int, size: int, dtype: torch.dtype) -> torch.Tensor:  # [1, 16, t, h, w]
    generator = torch.Generator().manual_seed(1)
    shape = (1, CONFIG.latent_channels, (frames - 1) // 4 + 1, size // 8, size // 8)
    return torch.randn(shape, generator=generator).to(dtype)


@torch.inference_mode()
def decode(mode: str, frames: int, size: int, dtype: torch.dtype, budget: int, sample: Path) -> dict:
    """One decode in this process; writes every 16th pixel of every 8th frame to `sample`."""
    torch.manual_seed(0)
    vae = CausalVAE(CONFIG).eval().to(dtype)
    limit = {"memory_budget": budget} if mode == "exact" else {}
    vae.decode(latents_of(5, 64, dtype), mode=mode)  # what is loaded on first use is not the decode's
    latents = latents_of(frames, size, dtype)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before, start = resident("VmRSS"), time.perf_counter()
    video = vae.decode(latents, mode=mode, **limit)
    seconds, peak = time.perf_counter() - start, resident("VmHWM") - before
    torch.save(video[:, :, ::8, ::16, ::16].clone(), sample)
    return {"peak": peak, "result": video.nbytes, "seconds": seconds}


def in_own_process(
    mode: str, frames: int, size: int, budget: int, dtype: str, folder: str
) -> tuple[dict, torch.Tensor]:
    sample = Path(folder) / f"{mode}_{frames}.pt"
    command = [sys.executable, __file__, "--worker", mode, "--frames", str(frames), "--sample", str(sample)]
    command += ["--size", str(size), "--budget", str(budget), "--dtype", dtype]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{mode}, {frames} frames: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout), torch.load(sample, weights_only=True)


def measure(frames: int, size: int, budget: int, dtype: str, plain_frames: list[int]) -> Iterator[dict]:
    """One row for exact mode, then one for each length in plain mode: mode, frames, peak, result (bytes), seconds.

    The row of plain mode with as many frames as exact mode's has, too, the largest difference of the two.
    """
    with tempfile.TemporaryDirectory() as folder:
        measured, exact = in_own_process("exact", frames, size, budget, dtype, folder)
        yield {"mode": "exact", "frames": frames, **measured}
        for count in plain_frames:
            measured, plain = in_own_process("plain", count, size, budget, dtype, folder)
            if count == frames:
                measured |= {"difference": float((exact - plain).abs().max()), "largest": float(plain.abs().max())}
            yield {"mode": "plain", "frames": count, **measured}


def compare(options: argparse.Namespace) -> list[dict]:
    """The rows of the table, exact mode first; prints each as it is measured."""
    rows = []
    print(f"{options.size}x{options.size} pixels, {options.dtype}, memory_budget {options.budget / 1e6:.0f} MB")
    print("| mode | frames | peak above the model | of it the result | seconds |\n|---|---|---|---|---|")
    for row in measure(options.frames, options.size, options.budget, options.dtype, options.plain_frames):
        peak, result = f"{row['peak'] / 1e6:.0f} MB", f"{row['result'] / 1e6:.0f} MB"
        print(f"| {row['mode']} | {row['frames']} | {peak} | {result} | {row['seconds']:.1f} |", flush=True)
        rows.append(row)
    for row in rows:
        if "difference" in row:
            print(f"largest difference of exact and plain: {row['difference']:.1e} of {row['largest']:.2f}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=129)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--budget", type=int, default=10**9, help="bytes")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--plain-frames", type=int, nargs="*", default=[33, 65, 129])
    parser.add_argument("--worker", choices=("exact", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--sample", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not STATUS.exists():
        raise SystemExit("resident memory is read from /proc, which this system does not have")
    if options.worker:
        dtype = DTYPES[options.dtype]
        measured = decode(options.worker, options.frames, options.size, dtype, options.budget, options.sample)
        print(json.dumps(measured))
        return
    exact = compare(options)[0]
    if exact["peak"] > options.budget + exact["result"]:
        raise SystemExit("mode='exact' took more than its budget and the result")


if __name__ == "__main__":
    main()
